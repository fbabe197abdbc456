// asker.js URL NAME COUNT: asks COUNT questions with the npm package `ws`, four at a time, and expects the answer to each,
// in order, and nothing else.
//
// Prints `ready` once it is connected, begins when its input has a line, and prints `ok COUNT` at the end; the first thing
// that is wrong ends the run with its reason and exit status 1.
'use strict';

const assert = require('node:assert');
const WebSocket = require('ws');

// The longest that the whole run may take, in milliseconds.
const DEADLINE = 60_000;
const WINDOW = 4;

const [url, name, countText] = process.argv.slice(2);
const count = Number(countText);
let [asked, answered] = [0, 0];

function fail(reason) {
  console.error(`${name}: ${reason}`);
  process.exit(1);
}

const socket = new WebSocket(url, { handshakeTimeout: 10_000 });
const ask = () => socket.send(`${name} ${asked++}`);
socket.on('open', () => {
  console.log('ready');
  process.stdin.once('data', () => {
    while (asked < Math.min(WINDOW, count)) ask();
  });
});
socket.on('message', (data, isBinary) => {
  try {
    assert.strictEqual(isBinary, false);
    assert.strictEqual(data.toString(), `answer to ${name} ${answered}`);
  } catch (error) {
    fail(error.message);
  }
  answered += 1;
  if (asked < count) ask();
  // The answer to the Close comes behind whatever else there would be.
  if (answered === count) socket.close(1000);
});
socket.on('error', (error) => fail(error.message));
socket.on('close', (code) => {
  if (answered !== count || code !== 1000) fail(`the connection ended (${code}) after ${answered} answers`);
  console.log(`ok ${answered}`);
  process.exit(0);
});
setTimeout(() => fail(`${answered} answers within ${DEADLINE} ms`), DEADLINE);
