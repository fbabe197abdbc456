// certificate.js URL CA_FILE CERTIFICATE KEY: the npm package `ws` with a certificate of the client.
//
// Sends one text and prints what comes back.
'use strict';

const fs = require('node:fs');
const WebSocket = require('ws');

const DEADLINE = 10_000;
const [url, caFile, certificate, key] = process.argv.slice(2);
const files = { ca: fs.readFileSync(caFile), cert: fs.readFileSync(certificate), key: fs.readFileSync(key) };
const socket = new WebSocket(url, { handshakeTimeout: DEADLINE, ...files });
const late = setTimeout(() => fail(`no message within ${DEADLINE} ms`), DEADLINE);

function fail(reason) {
  console.error(reason);
  process.exit(1);
}

socket.on('error', (error) => fail(error.message));
socket.on('open', () => socket.send('hello'));
socket.on('message', (data) => {
  console.log(data.toString());
  clearTimeout(late);
  socket.close();
});
