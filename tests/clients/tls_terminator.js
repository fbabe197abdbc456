// tls_terminator.js CERTIFICATE KEY CLIENT_CA PORT: what stands before a gateway where clients have to show a certificate.
//
// Lets in whoever has a certificate of CLIENT_CA and passes all bytes on to PORT of this machine. Prints
// `port NUMBER` once it listens, and `client NAME` for each client, NAME being that of its certificate.
'use strict';

const fs = require('node:fs');
const net = require('node:net');
const tls = require('node:tls');

const [certificate, key, clientCa, port] = process.argv.slice(2);
const [cert, keyText, ca] = [certificate, key, clientCa].map((file) => fs.readFileSync(file));

const server = tls.createServer({ cert, key: keyText, ca, requestCert: true, rejectUnauthorized: true }, (client) => {
  console.log(`client ${client.getPeerCertificate().subject.CN}`);
  const gateway = net.connect(Number(port), '127.0.0.1');
  client.pipe(gateway).pipe(client);
  // Whichever ends first ends the other.
  client.on('error', () => gateway.destroy()).on('close', () => gateway.destroy());
  gateway.on('error', () => client.destroy()).on('close', () => client.destroy());
});
server.listen(0, '127.0.0.1', () => console.log(`port ${server.address().port}`));

// The test that has started it is over.
process.stdin.on('end', () => process.exit()).resume();
