// node_client.js PLAIN_PORT TLS_PORT CA_FILE: what the npm package `ws` makes of a gateway.
//
// Each check of checks.js prints `ok NAME`; the first one that fails ends the run with its reason and exit status 1.
// The package's defaults stay as they are, so it offers permessage-deflate, as its users do.
'use strict';

const fs = require('node:fs');
const WebSocket = require('ws');
const { DEADLINE, runChecks } = require('./checks.js');

const [plainPort, tlsPort, caFile] = process.argv.slice(2);
// Only this authority is trusted, and the name is checked.
const ca = fs.readFileSync(caFile);

const connect = (url, subprotocols, options) =>
  new WebSocket(url, subprotocols, { handshakeTimeout: DEADLINE, ...options });

const sockets = {
  plain: (path, subprotocols) => connect(`ws://localhost:${plainPort}${path}`, subprotocols, {}),
  tls: (path, subprotocols) => connect(`wss://localhost:${tlsPort}${path}`, subprotocols, { ca }),
  readsAfterClose: true,
};

runChecks(sockets, (line) => console.log(line)).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
