// Node `ws` with the three endpoints of the load bench, to measure beside wsgate.
// node node_ws.js PORT [CERTIFICATE PRIVATE_KEY]; the `ws` package is looked up as node does (NODE_PATH).
'use strict';
const fs = require('fs');
const { WebSocketServer } = require('ws');

const [port, certificate, privateKey] = process.argv.slice(2);
const server = certificate
  ? require('https').createServer({ cert: fs.readFileSync(certificate), key: fs.readFileSync(privateKey) })
  : require('http').createServer();
const sockets = new WebSocketServer({ server, perMessageDeflate: false });
const room = new Set();

sockets.on('connection', (socket, request) => {
  socket.on('error', () => socket.terminate());
  if (request.url === '/echo') {
    socket.on('message', (data, binary) => socket.send(data, { binary }));
  } else if (request.url === '/broadcast') {
    room.add(socket);
    socket.on('close', () => room.delete(socket));
    socket.on('message', (data, binary) => {
      for (const other of room) if (other !== socket) other.send(data, { binary });
    });
  } else {
    socket.on('message', () => {});
  }
});
server.listen({ port: Number(port), host: '127.0.0.1', backlog: 4096 });
