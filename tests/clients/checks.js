// checks.js: what a JavaScript client does with a gateway. node_client.js and the page chromium_page.html both load it,
// so that Node and a browser pass the same checks.
//
// The gateway has the endpoints /echo, /broadcast and /proto, plain and with TLS.
'use strict';

// The longest that any single wait may take, in milliseconds.
const DEADLINE = 10_000;
const MEBIBYTE = 1 << 20;

// One connection whose messages and end can be awaited one by one. The socket has the interface of a browser's WebSocket,
// which the npm package `ws` has too.
class Client {
  constructor(socket) {
    this.socket = socket;
    this.arrived = [];
    this.wake = () => {};
    socket.onopen = () => { this.opened = true; this.wake(); };
    // Only `ws` says what is wrong; in a browser the end that follows has to do.
    socket.onerror = (event) => { this.error = event.message; this.wake(); };
    socket.onclose = (event) => { this.closed = event; this.wake(); };
    socket.onmessage = (event) => { this.arrived.push(event.data); this.wake(); };
  }

  async until(what, condition) {
    const late = Date.now() + DEADLINE;
    while (!condition()) {
      if (this.error) throw new Error(this.error);
      if (this.closed) throw new Error(`the connection ended (${this.closed.code}) before ${what}`);
      if (Date.now() >= late) throw new Error(`no ${what} within ${DEADLINE} ms`);
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, late - Date.now());
        this.wake = () => { clearTimeout(timer); resolve(); };
      });
    }
  }

  async receive() {
    await this.until('message', () => this.arrived.length > 0);
    return this.arrived.shift();
  }

  // Closes in an orderly way and checks that the gateway has answered with the same code: 1006 would say that it cut the
  // connection, 1005 that its Close had no code.
  async end() {
    this.socket.close(1000, 'done');
    await this.until('answer to our Close', () => this.closed);
    expect('close code', this.closed.code, 1000);
    expect('clean close', this.closed.wasClean, true);
  }
}

// Bytes arrive as the ArrayBuffer of a browser or as the Buffer of Node.
const isBytes = (value) => value instanceof ArrayBuffer || ArrayBuffer.isView(value);

function expect(what, actual, expected) {
  if (isBytes(expected) && isBytes(actual)) {
    const bytes = new Uint8Array(actual);
    const at = expected.findIndex((byte, n) => byte !== bytes[n]);
    if (at === -1 && bytes.length === expected.length) return;
    throw new Error(`${what}: ${bytes.length} of ${expected.length} bytes, wrong from ${at} on`);
  }
  if (actual !== expected) throw new Error(`${what}: expected ${brief(expected)}, got ${brief(actual)}`);
}

function brief(value) {
  if (isBytes(value)) return `${value.byteLength} bytes`;
  const text = String(JSON.stringify(value));
  return text.length <= 80 ? text : `${text.slice(0, 80)}... (${text.length} long)`;
}

// Bytes of a period that no power of two divides, so that a lost or doubled block shows.
const pattern = (length) => Uint8Array.from({ length }, (_, n) => n % 251);

// Each check is given `join` and `joinTls`, which open a connection to a path, and what is different about this client.
const checks = {
  async echo({ join }) {
    const client = await join('/echo');
    for (const text of ['hello', '', 'Grüße, 世界 🌍']) {
      client.socket.send(text);
      expect('echo', await client.receive(), text);
    }
    await client.end();
  },

  async broadcast({ join, joinTls }) {
    const sender = await join('/broadcast');
    const others = { 'the other client': await join('/broadcast'), 'the TLS client': await joinTls('/broadcast') };
    const everybody = { 'the sender': sender, ...others };
    for (let n = 0; n < 100; n++) sender.socket.send(`message ${n}`);
    for (const [name, client] of Object.entries(everybody)) {
      for (let n = 0; n < 100; n++) expect(name, await client.receive(), `message ${n}`);
    }
    for (const client of Object.values(everybody)) await client.end();
  },

  async binary({ join }) {
    const client = await join('/echo');
    for (const data of [pattern(251), new Uint8Array(0)]) {
      client.socket.send(data);
      expect('binary echo', await client.receive(), data);
    }
    await client.end();
  },

  async subprotocol({ join }) {
    const client = await join('/proto', ['chat.v1', 'chat.v2']);
    expect('agreed subprotocol', client.socket.protocol, 'chat.v2');
    client.socket.send('agreed');
    expect('echo', await client.receive(), 'agreed');
    await client.end();
    const plain = await join('/proto');
    expect('subprotocol when none was offered', plain.socket.protocol, '');
    await plain.end();
  },

  async large({ join }) {
    const client = await join('/echo');
    client.socket.send(pattern(MEBIBYTE));
    expect('1 MiB binary echo', await client.receive(), pattern(MEBIBYTE));
    const text = 'ü'.repeat(MEBIBYTE / 2);
    client.socket.send(text);
    expect('1 MiB text echo', await client.receive(), text);
    await client.end();
  },

  async wss({ joinTls }) {
    const client = await joinTls('/echo');
    client.socket.send('encrypted');
    expect('echo', await client.receive(), 'encrypted');
    client.socket.send(pattern(MEBIBYTE));
    expect('1 MiB echo', await client.receive(), pattern(MEBIBYTE));
    await client.end();
  },

  async close({ join, joinTls, readsAfterClose }) {
    for (const client of [await join('/echo'), await joinTls('/echo')]) {
      client.socket.send('last');
      // A browser drops what arrives after its own close(), so there the answer has to come first.
      if (!readsAfterClose) expect('echo', await client.receive(), 'last');
      await client.end();
      if (readsAfterClose) expect('the answer before the end', client.arrived.shift(), 'last');
      expect('messages after it', client.arrived.length, 0);
    }
  },
};

// Runs all checks and reports `ok NAME` for each; the first one that fails ends the run with its reason.
//
// `plain` and `tls` make a socket for a path and a list of subprotocols. `readsAfterClose` says whether the client gets
// messages that arrive after it has said that it closes.
async function runChecks({ plain, tls, readsAfterClose }, report) {
  const open = async (socket) => {
    const client = new Client(socket);
    await client.until('opening handshake', () => client.opened);
    return client;
  };
  const join = (path, subprotocols = []) => open(plain(path, subprotocols));
  const joinTls = (path, subprotocols = []) => open(tls(path, subprotocols));
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check({ join, joinTls, readsAfterClose });
    } catch (error) {
      throw new Error(`failed ${name}: ${error.message}`);
    }
    await report(`ok ${name}`);
  }
}

// A browser has no modules in a plain script; its page sees the function itself.
if (typeof module !== 'undefined') module.exports = { DEADLINE, runChecks };
