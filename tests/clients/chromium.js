// A headless Chromium that a script drives over its own protocol (CDP), by a pipe: no port, no library.
//
//   const browser = await launch();
//   const page = await browser.open('http://127.0.0.1:8081/');
//   await page.evaluate('document.title');
//   await browser.close();
//
// A page notes what it should not have: errors of its console, requests to other hosts than its own, and violations of
// its Content-Security-Policy. CHROMIUM names another browser than `chromium`.
'use strict';

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

// The longest wait for an answer of the browser, or for what a page is to become, in milliseconds.
const DEADLINE = 30_000;

const OPTIONS = [
  '--headless',
  '--disable-gpu',
  '--disable-dev-shm-usage', // containers have 64 MiB there, too little for a page
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run',
  '--no-proxy-server',
  '--remote-debugging-pipe',
];

const within = (promise, what) => {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${DEADLINE} ms: ${what}`)), DEADLINE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

// The browser at the other end of the pipe.
class Browser {
  constructor(child, profile) {
    this.child = child;
    this.profile = profile;
    this.next = 1;
    this.calls = new Map();
    this.pages = new Map();
    let input = '';
    child.stdio[4].setEncoding('utf8').on('data', (part) => {
      const messages = (input + part).split('\0');
      input = messages.pop();
      messages.forEach((message) => this.take(JSON.parse(message)));
    });
    child.on('exit', (code) => this.fail(new Error(`the browser has ended by itself (exit status ${code})`)));
  }

  fail(error) {
    this.calls.forEach(({ reject }) => reject(error));
    this.calls.clear();
  }

  take(message) {
    if (message.id === undefined) return this.pages.get(message.sessionId)?.note(message.method, message.params);
    const { resolve, reject, method } = this.calls.get(message.id);
    this.calls.delete(message.id);
    if (message.error) reject(new Error(`${method}: ${message.error.message}`));
    else resolve(message.result);
  }

  call(method, params = {}, sessionId = undefined) {
    const id = this.next++;
    const answer = new Promise((resolve, reject) => this.calls.set(id, { resolve, reject, method }));
    this.child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return within(answer, method);
  }

  // A page of this address, once it is loaded.
  async open(url) {
    const { targetId } = await this.call('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await this.call('Target.attachToTarget', { targetId, flatten: true });
    const page = new Page(this, sessionId, new URL(url).host);
    this.pages.set(sessionId, page);
    for (const domain of ['Runtime', 'Log', 'Network', 'Page', 'Audits']) await page.call(`${domain}.enable`);
    await page.goTo(url);
    return page;
  }

  async close() {
    this.child.removeAllListeners('exit');
    const closed = new Promise((resolve) => this.child.once('close', resolve));
    // It is the head of a process group of its own, helpers and all.
    process.kill(-this.child.pid, 'SIGKILL');
    await closed;
    fs.rmSync(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

class Page {
  constructor(browser, session, host) {
    this.browser = browser;
    this.session = session;
    this.host = host;
    this.wrong = [];
    this.loaded = () => {};
  }

  call(method, params) {
    return this.browser.call(method, params, this.session);
  }

  note(method, params) {
    if (method === 'Page.loadEventFired') return this.loaded();
    if (method === 'Runtime.exceptionThrown') {
      const { text, exception } = params.exceptionDetails;
      return this.wrong.push(`exception: ${exception?.description ?? text}`);
    }
    if (method === 'Runtime.consoleAPICalled' && ['error', 'warning', 'assert'].includes(params.type)) {
      return this.wrong.push(`console: ${params.args.map((arg) => arg.value ?? arg.description).join(' ')}`);
    }
    if (method === 'Log.entryAdded' && ['error', 'warning'].includes(params.entry.level)) {
      return this.wrong.push(`log: ${params.entry.text} ${params.entry.url ?? ''}`);
    }
    if (method === 'Audits.issueAdded' && params.issue.code === 'ContentSecurityPolicyIssue') {
      return this.wrong.push(`policy: ${JSON.stringify(params.issue.details)}`);
    }
    const url = { 'Network.requestWillBeSent': params.request?.url, 'Network.webSocketCreated': params.url }[method];
    if (url && !url.startsWith('data:') && new URL(url).host !== this.host) this.wrong.push(`request: ${url}`);
  }

  async goTo(url) {
    const loaded = new Promise((resolve) => (this.loaded = resolve));
    await this.call('Page.navigate', { url });
    await within(loaded, `the load of ${url}`);
  }

  // The value of an expression in the page; a promise is waited for.
  async evaluate(expression) {
    const { result, exceptionDetails } = await this.call('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
    return result.value;
  }

  // Waits until an expression is true in the page.
  async until(expression, what = expression) {
    const late = Date.now() + DEADLINE;
    while (!(await this.evaluate(`Boolean(${expression})`))) {
      if (Date.now() > late) throw new Error(`not within ${DEADLINE} ms: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  // Clicks on the middle of what a selector finds, as a mouse does.
  async click(selector) {
    const found = `document.querySelector(${JSON.stringify(selector)})`;
    await this.until(found, `there is ${selector}`);
    const [x, y] = await this.evaluate(`(() => {
      const found = ${found};
      found.scrollIntoView({ block: 'nearest' });
      const { x, y, width, height } = found.getBoundingClientRect();
      return [x + width / 2, y + height / 2];
    })()`);
    for (const type of ['mousePressed', 'mouseReleased']) {
      await this.call('Input.dispatchMouseEvent', { type, x, y, button: 'left', clickCount: 1 });
    }
  }

  // Types a text into what a selector finds.
  async type(selector, text) {
    await this.evaluate(`document.querySelector(${JSON.stringify(selector)}).focus()`);
    await this.call('Input.insertText', { text });
  }

  // Presses a key that is called so, and has this number.
  async press(key, number) {
    const event = { key, code: key, windowsVirtualKeyCode: number };
    await this.call('Input.dispatchKeyEvent', { type: 'keyDown', ...event, text: key === 'Enter' ? '\r' : undefined });
    await this.call('Input.dispatchKeyEvent', { type: 'keyUp', ...event });
  }

  // How wide and high it is shown, and in which colours.
  async show({ width, height, scheme, isPhone = false }) {
    await this.call('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: isPhone ? 2 : 1, mobile: isPhone });
    await this.call('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }] });
  }

  async screenshot(file) {
    const { data } = await this.call('Page.captureScreenshot', { format: 'png' });
    fs.writeFileSync(file, Buffer.from(data, 'base64'));
  }
}

async function launch(more = []) {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'wsgate-chromium-'));
  const options = [...OPTIONS, ...more, `--user-data-dir=${profile}`];
  // Chromium's sandbox refuses to work for root, as which CI machines run their tests.
  if (process.getuid() === 0) options.push('--no-sandbox');
  const child = spawn(process.env.CHROMIUM ?? 'chromium', options, {
    detached: true,
    stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
  });
  await new Promise((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (error) => reject(new Error(`failed to start Chromium: ${error.message} (tests/install-clients.sh installs it)`)));
  });
  return new Browser(child, profile);
}

module.exports = { launch, within };
