// chromium_admin.js ADMIN_PORT PLAIN_PORT PYTHON CLIENTS [SHOTS]: the page of the admin listener in headless Chromium.
//
// The gateway has the endpoints /room, /x/{name} and /named/{name} on its plain port; at the last one a token stands for an
// identity that is called as EVIL_NAME says. It has a link "plc" that is given up. CLIENTS clients are connected to it by this script,
// and one by PYTHON (a Python with the package `websockets`). Each check prints `ok NAME`; the first that fails ends the run
// with its reason and exit status 1. With SHOTS, a directory, screenshots of all views are left there.
'use strict';

const { spawn } = require('node:child_process');
const path = require('node:path');
const WebSocket = require('ws');

const { launch, within } = require('./chromium.js');

const [adminPort, plainPort, python, clientsText, shots] = process.argv.slice(2);
const CLIENTS = Number(clientsText);

// What a client says of itself where others would let it in: it must stay a text.
const EVIL = '<script>window.evil=1</script><img src=x onerror="window.evil=1">';

const EVIL_NAME = '<script>window.evil=2</script>';
const TOKEN = 'hunter2-evil';

// The longest that a search may take until its rows are there, in milliseconds.
const SEARCH_MAX = 100;

const url = (to) => `ws://127.0.0.1:${plainPort}${to}`;
const $ = (selector) => `document.querySelector(${JSON.stringify(selector)})`;
const text = (selector) => `${$(selector)}?.textContent`;

function connect(to, options = {}) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url(to), [], { perMessageDeflate: false, ...options });
    socket.on('open', () => resolve(socket));
    socket.on('error', reject);
  });
}

async function connectMany(count) {
  const sockets = [];
  while (sockets.length < count) {
    const some = Array.from({ length: Math.min(50, count - sockets.length) }, (_, at) => connect(`/x/name-${sockets.length + at}`));
    sockets.push(...(await Promise.all(some)));
  }
  return sockets;
}

// A Python client that prints what it gets and sends what it is told.
function startPython() {
  const child = spawn(python, ['-u', '-W', 'error', path.join(__dirname, 'python_talker.py'), url('/room')], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = [];
  const waiting = [];
  let rest = '';
  child.stdout.setEncoding('utf8').on('data', (part) => {
    const parts = (rest + part).split('\n');
    rest = parts.pop();
    for (const line of parts) {
      if (waiting.length > 0) waiting.shift()(line);
      else lines.push(line);
    }
  });
  const next = () => within(lines.length > 0 ? Promise.resolve(lines.shift()) : new Promise((resolve) => waiting.push(resolve)), 'a line of the Python client');
  return { child, next, send: (line) => child.stdin.write(`${line}\n`) };
}

function expect(what, actual, expected) {
  if (actual !== expected) throw new Error(`${what}: ${JSON.stringify(actual)} instead of ${JSON.stringify(expected)}`);
}

const view = (page, name) => page.evaluate(`location.hash = '#${name}'`);

async function search(page, words) {
  await page.evaluate(`${$('#clients-search')}.value = ''`);
  await page.type('#clients-search', words);
}

async function checkCounts(page, count) {
  await page.until(`${text('#clients-badge')} === ${JSON.stringify(count.toLocaleString('en'))}`, `${count} clients`);
  await view(page, 'clients');
  await page.until(`${text('#clients-count')} === ${JSON.stringify(`${count.toLocaleString('en')} clients`)}`, `${count} clients in the table`);
  await view(page, 'overview');
  await page.until(`${$('#endpoints')}.tBodies[0].rows.length === 3`);
  const shown = await page.evaluate(`[...${$('#endpoints')}.tBodies[0].rows].map((row) => row.cells[1].firstElementChild.textContent).join(';')`);
  expect('the clients of the endpoints', shown, `2;${(count - 2).toLocaleString('en')};0`);
  console.log('ok counts');
}

async function checkSearch(page) {
  await view(page, 'clients');
  await search(page, 'name-17');
  // From the key to the rows, painted.
  const slowest = await page.evaluate(`(async () => {
    const input = ${$('#clients-search')};
    let slowest = 0;
    for (const words of ['n', 'na', 'name', 'name-1', 'name-17', 'x name-17', '127.0', '']) {
      const begun = performance.now();
      input.value = words;
      input.dispatchEvent(new Event('input'));
      await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
      slowest = Math.max(slowest, performance.now() - begun);
    }
    return slowest;
  })()`);
  console.error(`a search among ${CLIENTS} clients took ${slowest.toFixed(1)} ms at most`);
  if (slowest > SEARCH_MAX && CLIENTS >= 10_000) throw new Error(`a search took ${slowest} ms`);
  await search(page, 'name-17');
  await page.until(`${text('#clients-table tbody tr:not(.spacer)')}?.includes('/x/name-17')`);
  await page.click('#clients-table th[data-column="path"] button');
  expect('the order', await page.evaluate(`${$('th[data-column="path"]')}.getAttribute('aria-sort')`), 'ascending');
  await search(page, 'nobody is called that');
  await page.until(`${text('#clients-none')} === 'No client matches.' && !${$('#clients-none')}.hidden`);
  await page.evaluate(`${$('#clients-search')}.value = ''; ${$('#clients-search')}.dispatchEvent(new Event('input'))`);
  console.log('ok search');
}

// From the search to the table, down a row, into the details and back to the row, by the keyboard alone.
async function checkKeyboard(page) {
  const focused = 'document.activeElement?.dataset.client';
  await page.evaluate(`${$('#clients-search')}.focus()`);
  for (let tabs = 0; tabs < 20 && !(await page.evaluate(focused)); tabs += 1) await page.press('Tab', 9);
  const first = await page.evaluate(focused);
  await page.press('ArrowDown', 40);
  await page.until(`${focused} !== ${JSON.stringify(first)}`, 'the next row has the focus');
  const next = await page.evaluate(focused);
  await page.press('Enter', 13);
  await page.until(`document.activeElement.id === 'client-title'`, 'the details have the focus');
  expect('the client in the details', await page.evaluate(text('#client-title')), next);
  await page.press('Escape', 27);
  await page.until(`${$('#client')}.hidden && ${focused} === ${JSON.stringify(next)}`, 'the row has the focus again');
  console.log('ok keyboard');
}

async function openClient(page, words) {
  await view(page, 'clients');
  await search(page, words);
  await page.until(`${$('#clients-table')}.tBodies[0].querySelectorAll('button').length === 1`, `one client fits to ${words}`);
  await page.click('#clients-table tbody button');
  await page.until(`${$('#client .facts dd')} && !${$('#client')}.hidden`);
}

async function checkMessages(page, talker) {
  await openClient(page, 'talker');
  await page.type('#client textarea', 'from the page ✓');
  await page.click('#client form[data-form="send"] button');
  expect('the message to one client', await talker.next(), 'from the page ✓');
  await page.click('#client header button');
  await view(page, 'overview');
  await page.click('#endpoints tbody tr td.actions button:nth-child(3)');
  await page.type('dialog textarea', 'to the room');
  await page.click('dialog button[type="submit"]');
  await page.until(`${text('dialog .outcome')} === 'Sent to 2 clients.'`);
  expect('the message to the room', await talker.next(), 'to the room');
  await page.click('dialog button.quiet');
  console.log('ok messages');
}

async function checkTail(page, talker) {
  await view(page, 'tail');
  await page.until(`${text('#tail-note')}.startsWith('At most')`);
  const begun = Date.now();
  talker.send('from Python ✓');
  await page.until(`${text('#tail-rows li pre')} === 'from Python ✓'`);
  const took = Date.now() - begun;
  console.error(`a message was in the tail after ${took} ms`);
  await page.click('#tail-pause');
  talker.send('while paused');
  await page.until(`${text('#tail-count')}.includes('1 waiting')`);
  expect('the newest row of a tail that is paused', await page.evaluate(text('#tail-rows li pre')), 'from Python ✓');
  await page.click('#tail-pause');
  await page.until(`${text('#tail-rows li pre')} === 'while paused'`);
  console.log('ok tail');
}

async function checkActs(page) {
  await view(page, 'overview');
  await page.until(`${text('#links tbody tr .state')} === 'Given up'`);
  await page.click('#links tbody tr td.actions button');
  await page.until(`${text('#links-outcome')} === 'plc is about to be dialled.'`);
  expect('the level of the log', await page.evaluate(`${$('#log-level')}.value`), '');
  const select = (level) => `${$('#log-level')}.value = '${level}'; ${$('#log-level')}.dispatchEvent(new Event('change'))`;
  await page.evaluate(select('warn'));
  await page.until(`${text('#log-outcome')} === 'The level is warn until the next reload.'`);
  await page.click('#reload-button');
  await page.until(`${$('#log-level')}.value === ''`, 'a reload takes the level back');
  await page.evaluate(select('debug'));
  await page.until(`${text('#log-outcome')} === 'The level is debug until the next reload.'`);
  console.log('ok acts');
}

async function checkTexts(page) {
  const name = encodeURIComponent(EVIL.replaceAll('/', '|'));
  const evil = await connect(`/named/${name}`, { headers: { 'User-Agent': EVIL, Authorization: `Bearer ${TOKEN}` } });
  const closed = new Promise((resolve) => evil.on('close', (code, reason) => resolve(`${code} ${reason}`)));
  await view(page, 'tail');
  await page.until(`${text('#tail-note')}.startsWith('At most')`);
  evil.send(EVIL);
  await page.until(`${text('#tail-rows li pre')} === ${JSON.stringify(EVIL)}`);
  await openClient(page, 'window.evil');
  for (const shown of [EVIL, EVIL_NAME, EVIL.replaceAll('/', '|')]) {
    await page.until(`${text('#client .facts')}.includes(${JSON.stringify(shown)})`);
  }
  await page.evaluate(`${$('#client form[data-form="disconnect"] input')}.value = ${JSON.stringify(EVIL)}`);
  await page.click('#client form[data-form="disconnect"] button');
  expect('the end of a client', await within(closed, 'the Close'), `1008 ${EVIL}`);
  await page.until(`${text('#client .facts')}.includes('It has left.')`);
  expect('what a script of a client has done', await page.evaluate('typeof window.evil'), 'undefined');
  await page.click('#client header button');
  console.log('ok texts');
  console.log('ok kick');
}

async function takeShots(page) {
  await page.evaluate(`${$('#clients-search')}.value = ''; ${$('#clients-search')}.dispatchEvent(new Event('input'))`);
  for (const scheme of ['light', 'dark']) {
    for (const [width, height, isPhone] of [[1360, 860, false], [390, 844, true]]) {
      await page.show({ width, height, scheme, isPhone });
      for (const name of ['overview', 'clients', 'tail']) {
        await view(page, name);
        // Charts are drawn anew a moment after the window has changed.
        await new Promise((resolve) => setTimeout(resolve, 1500));
        await page.screenshot(path.join(shots, `${name}-${CLIENTS}-${scheme}-${width}.png`));
      }
    }
  }
}

async function run(browser) {
  const talker = startPython();
  const many = await connectMany(CLIENTS);
  const other = await connect('/room');
  expect('the Python client', await talker.next(), 'connected');
  try {
    const page = await browser.open(`http://127.0.0.1:${adminPort}/`);
    await checkCounts(page, CLIENTS + 2);
    await checkSearch(page);
    await checkKeyboard(page);
    await checkMessages(page, talker);
    await checkTail(page, talker);
    await checkActs(page);
    await checkTexts(page);
    if (shots) await takeShots(page);
    if (page.wrong.length > 0) throw new Error(`the page has done wrong: ${page.wrong.join('; ')}`);
    console.log('ok clean');
  } finally {
    talker.child.kill();
    [...many, other].forEach((socket) => socket.terminate());
  }
}

async function main() {
  const browser = await launch();
  try {
    await run(browser);
  } finally {
    await browser.close();
  }
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
