// node_client.js PLAIN_PORT TLS_PORT CA_FILE: what the npm package `ws` makes of a gateway.
//
// The gateway has the endpoints /echo, /broadcast and /proto on both ports. Each check prints
// `ok NAME`; the first one that fails ends the run with its reason and exit status 1.
// The package's defaults stay as they are, so it offers permessage-deflate, as its users do.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const WebSocket = require('ws');

// The longest that any single wait may take, in milliseconds.
const DEADLINE = 10_000;
const MEBIBYTE = 1 << 20;

const [plainPort, tlsPort, caFile] = process.argv.slice(2);
const ca = fs.readFileSync(caFile);

// One connection whose messages and end can be awaited one by one.
class Client {
  constructor(url, subprotocols, options) {
    this.socket = new WebSocket(url, subprotocols, { handshakeTimeout: DEADLINE, ...options });
    this.arrived = [];
    this.wake = () => {};
    this.socket.on('message', (data, isBinary) => {
      this.arrived.push(isBinary ? data : data.toString());
      this.wake();
    });
    for (const event of ['open', 'error', 'close']) {
      this.socket.on(event, (detail, reason) => {
        this[event] = { detail, reason };
        this.wake();
      });
    }
  }

  async until(what, condition) {
    const late = Date.now() + DEADLINE;
    while (!condition()) {
      if (this.error) throw this.error.detail;
      if (this.close) throw new Error(`the connection ended (${this.close.detail}) before ${what}`);
      if (Date.now() >= late) throw new Error(`no ${what} within ${DEADLINE} ms`);
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, late - Date.now());
        this.wake = () => (clearTimeout(timer), resolve());
      });
    }
  }

  async receive() {
    await this.until('message', () => this.arrived.length > 0);
    return this.arrived.shift();
  }

  // Closes in an orderly way and checks that the gateway answered with the same code:
  // 1006 would say that it cut the connection, 1005 that its Close had no code.
  async end() {
    this.socket.close(1000, 'done');
    await this.until('answer to our Close', () => this.close);
    assert.strictEqual(this.close.detail, 1000, `close code ${this.close.detail} instead of 1000`);
  }
}

async function open(url, subprotocols, options) {
  const client = new Client(url, subprotocols, options);
  await client.until('opening handshake', () => client.open);
  return client;
}

const join = (path, subprotocols) => open(`ws://localhost:${plainPort}${path}`, subprotocols ?? [], {});

// Only this authority is trusted, and the name is checked.
const joinTls = (path) => open(`wss://localhost:${tlsPort}${path}`, [], { ca });

function expect(what, actual, expected) {
  const same = Buffer.isBuffer(expected) ? Buffer.isBuffer(actual) && expected.equals(actual) : expected === actual;
  if (same) return;
  if (Buffer.isBuffer(expected) && Buffer.isBuffer(actual)) {
    const at = expected.findIndex((byte, n) => byte !== actual[n]);
    throw new Error(`${what}: ${actual.length} of ${expected.length} bytes, wrong from ${at} on`);
  }
  throw new Error(`${what}: expected ${brief(expected)}, got ${brief(actual)}`);
}

function brief(value) {
  if (Buffer.isBuffer(value)) return `${value.length} bytes`;
  const text = String(JSON.stringify(value));
  return text.length <= 80 ? text : `${text.slice(0, 80)}... (${text.length} long)`;
}

// Bytes of a period that no power of two divides, so that a lost or doubled block shows.
const pattern = (length) => Buffer.from(Uint8Array.from({ length }, (_, n) => n % 251));

const checks = {
  async echo() {
    const client = await join('/echo');
    for (const text of ['hello', '', 'Grüße, 世界 🌍']) {
      client.socket.send(text);
      expect('echo', await client.receive(), text);
    }
    await client.end();
  },

  async broadcast() {
    const sender = await join('/broadcast');
    const others = { 'the other client': await join('/broadcast'), 'the TLS client': await joinTls('/broadcast') };
    const everybody = { 'the sender': sender, ...others };
    for (let n = 0; n < 100; n++) sender.socket.send(`message ${n}`);
    for (const [name, client] of Object.entries(everybody)) {
      for (let n = 0; n < 100; n++) expect(name, await client.receive(), `message ${n}`);
    }
    for (const client of Object.values(everybody)) await client.end();
  },

  async binary() {
    const client = await join('/echo');
    for (const data of [pattern(251), Buffer.alloc(0)]) {
      client.socket.send(data);
      expect('binary echo', await client.receive(), data);
    }
    await client.end();
  },

  async subprotocol() {
    const client = await join('/proto', ['chat.v1', 'chat.v2']);
    expect('agreed subprotocol', client.socket.protocol, 'chat.v2');
    client.socket.send('agreed');
    expect('echo', await client.receive(), 'agreed');
    await client.end();
    const plain = await join('/proto');
    expect('subprotocol when none was offered', plain.socket.protocol, '');
    await plain.end();
  },

  async large() {
    const client = await join('/echo');
    client.socket.send(pattern(MEBIBYTE));
    expect('1 MiB binary echo', await client.receive(), pattern(MEBIBYTE));
    const text = 'ü'.repeat(MEBIBYTE / 2);
    client.socket.send(text);
    expect('1 MiB text echo', await client.receive(), text);
    await client.end();
  },

  async wss() {
    const client = await joinTls('/echo');
    client.socket.send('encrypted');
    expect('echo', await client.receive(), 'encrypted');
    client.socket.send(pattern(MEBIBYTE));
    expect('1 MiB echo', await client.receive(), pattern(MEBIBYTE));
    await client.end();
  },

  async close() {
    for (const client of [await join('/echo'), await joinTls('/echo')]) {
      client.socket.send('last');
      await client.end();
      expect('the answer before the end', client.arrived.shift(), 'last');
      expect('messages after it', client.arrived.length, 0);
    }
  },
};

(async () => {
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
    } catch (error) {
      console.error(`failed ${name}: ${error.message}`);
      process.exit(1);
    }
    console.log(`ok ${name}`);
  }
})();
