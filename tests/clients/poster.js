// poster.js PORT: posts 20 messages as programs do, by fetch and by an agent that keeps its connection.
'use strict';

const http = require('node:http');

const port = Number(process.argv[2]);

const send = (agent, body) =>
  new Promise((resolve, reject) => {
    const options = { agent, port, host: '127.0.0.1', path: '/rooms/7', method: 'POST' };
    const headers = { 'Content-Type': 'text/plain', 'Content-Length': Buffer.byteLength(body) };
    const request = http.request({ ...options, headers }, (answer) => {
      const { localPort } = answer.socket;
      answer.resume().on('end', () => (answer.statusCode === 202 ? resolve(localPort) : reject(answer.statusCode)));
    });
    request.on('error', reject).end(body);
  });

async function main() {
  for (let number = 0; number < 10; number += 1) {
    const options = { method: 'POST', body: `node ${number}`, headers: { 'Content-Type': 'text/plain' } };
    const answer = await fetch(`http://127.0.0.1:${port}/rooms/7`, options);
    if (answer.status !== 202 || (await answer.json()).accepted !== 1) throw new Error(`answered ${answer.status}`);
  }
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const ports = new Set();
  for (let number = 10; number < 20; number += 1) ports.add(await send(agent, `node ${number}`));
  agent.destroy();
  console.log(`${ports.size} connection`);
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
