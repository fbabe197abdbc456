// The clients: all of them are known here, so that a search needs no request. Only the rows that can be seen are there as
// elements, in the place that they have among all.

import { ApiError, ask, list } from '/page/api.js';
import { byId, el, setOptions, show, write } from '/page/dom.js';
import { bytes, count, duration, moment } from '/page/format.js';
import { disconnectForm, sendForm } from '/page/send.js';
import * as tail from '/page/tail.js';

// Rows above and below those that can be seen.
const SPARE = 8;

// The shortest time between two times that the whole list is asked for, and how often the client that is looked at is, in
// milliseconds.
const RELOAD = 5000;
const LOOK = 2000;

const COLUMNS = [
  { name: 'id', title: 'Id', class: 'mono', value: (client) => client.id },
  { name: 'path', title: 'Path', class: 'mono', value: (client) => client.path },
  { name: 'identity', title: 'Identity', class: 'identity', value: (client) => client.identity ?? '' },
  { name: 'address', title: 'Address', class: 'mono wide-only', value: (client) => client.address ?? 'Unix socket' },
  { name: 'userAgent', title: 'Program', class: 'wide-only', value: (client) => client.userAgent ?? '' },
  { name: 'since', title: 'Connected', class: 'number', value: (client) => duration(now - client.since) },
];

// By id.
const known = new Map();
// All of them in the order of the table, and those that fit to the search.
let ordered = [];
let fitting = [];
let sort = { name: 'since', isUp: false };
let isShown = false;
let isStale = false;
// Ids that have left while the list was on its way.
let leftMeanwhile = null;
let loadedAt = -Infinity;
let reloadTimer = null;
let rights = new Set();
let now = Date.now();
// The id of the client that is looked at.
let selected = null;
let lookTimer = null;
let rowHeight = 0;

// A client, with what is searched and sorted by.
function enter(client) {
  client.since = Date.parse(client.connectedAt);
  client.text = [client.id, client.path, client.identity, client.address, client.userAgent, client.subprotocol]
    .filter(Boolean).join('\n').toLowerCase();
  known.set(client.id, client);
}

export function start() {
  const head = byId('clients-table').tHead.rows[0];
  for (const column of COLUMNS) {
    const button = el('button', { type: 'button', click: () => sortBy(column.name) }, column.title);
    head.append(el('th', { scope: 'col', class: column.class, 'data-column': column.name }, button));
  }
  byId('clients-search').addEventListener('input', search);
  byId('clients-endpoint').addEventListener('change', search);
  byId('clients-tools').addEventListener('submit', (event) => event.preventDefault());
  byId('clients-rows').addEventListener('scroll', render, { passive: true });
  byId('clients-rows').addEventListener('keydown', moveFocus);
  addEventListener('resize', () => {
    rowHeight = 0;
    if (isShown) render();
  });
}

export function hello(_, mayDo) {
  rights = mayDo;
  load();
}

export function shown(value) {
  isShown = value;
  if (isShown) {
    if (isStale) order();
    search();
  }
  look();
}

// Shows the clients of one endpoint.
export function showEndpoint(path) {
  byId('clients-search').value = '';
  byId('clients-endpoint').value = path;
  location.hash = '#clients';
}

async function load() {
  clearTimeout(reloadTimer);
  reloadTimer = null;
  if (leftMeanwhile !== null) return;
  leftMeanwhile = new Set();
  loadedAt = performance.now();
  const found = new Set();
  try {
    await list('/api/v1/clients', (items) => items.forEach((client) => {
      if (leftMeanwhile.has(client.id)) return;
      found.add(client.id);
      enter(client);
    }));
    // Who is not in it has left before, but for those that have come since.
    for (const [id, client] of known) if (!found.has(id) && !client.isNew) known.delete(id);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    reloadSoon();
  } finally {
    leftMeanwhile = null;
    for (const client of known.values()) client.isNew = false;
    changed();
  }
}

function reloadSoon() {
  reloadTimer ??= setTimeout(load, Math.max(0, loadedAt + RELOAD - performance.now()));
}

export function sample(message) {
  now = message.at;
  setOptions(byId('clients-endpoint'), message.info.endpoints.map((endpoint) => endpoint.path));
  for (const client of message.joined) {
    client.isNew = leftMeanwhile !== null;
    enter(client);
  }
  for (const id of message.left) {
    known.delete(id);
    leftMeanwhile?.add(id);
  }
  if (message.isIncomplete) reloadSoon();
  if (message.joined.length > 0 || message.left.length > 0) changed();
  else if (isShown) render();
}

function changed() {
  isStale = true;
  if (!isShown) return;
  order();
  search();
}

function sortBy(name) {
  sort = { name, isUp: sort.name === name ? !sort.isUp : name !== 'since' };
  order();
  search();
}

function order() {
  isStale = false;
  const { name, isUp } = sort;
  const key = name === 'since' ? (client) => client.since : (client) => (client[name] ?? '').toLowerCase();
  const keyed = [...known.values()].map((client) => [key(client), client]);
  const way = isUp ? 1 : -1;
  keyed.sort(([a, one], [b, other]) => (a < b ? -way : a > b ? way : one.id < other.id ? -1 : 1));
  ordered = keyed.map(([, client]) => client);
  // Where nobody is asked who he is, the column would be empty.
  byId('clients-table').classList.toggle('nameless', ordered.every((client) => client.identity === null));
  for (const cell of byId('clients-table').tHead.rows[0].cells) {
    const isIt = cell.dataset.column === name;
    if (isIt) cell.setAttribute('aria-sort', isUp ? 'ascending' : 'descending');
    else cell.removeAttribute('aria-sort');
  }
}

function search() {
  const words = byId('clients-search').value.toLowerCase().split(/\s+/).filter(Boolean);
  const endpoint = byId('clients-endpoint').value;
  const isWanted = (client) => (endpoint === '' || client.endpoint === endpoint) && words.every((word) => client.text.includes(word));
  fitting = words.length === 0 && endpoint === '' ? ordered : ordered.filter(isWanted);
  const all = known.size === fitting.length ? '' : ` of ${count(known.size)}`;
  write(byId('clients-count'), `${count(fitting.length)}${all} client${known.size === 1 ? '' : 's'}`);
  const none = known.size === 0 ? 'No client is connected.' : 'No client matches.';
  write(byId('clients-none'), none);
  show(byId('clients-none'), fitting.length === 0);
  render();
}

// Makes the rows that can be seen.
function render() {
  const body = byId('clients-table').tBodies[0];
  const box = byId('clients-rows');
  if (rowHeight === 0) measure(body);
  const first = Math.max(0, Math.floor(box.scrollTop / rowHeight) - SPARE);
  const last = Math.min(fitting.length, first + Math.ceil(box.clientHeight / rowHeight) + 2 * SPARE);
  const focused = document.activeElement?.dataset?.client;
  const rows = [];
  for (let at = first; at < last; at += 1) rows.push(row(fitting[at], at));
  body.replaceChildren(spacer(first), ...rows, spacer(fitting.length - last));
  byId('clients-table').setAttribute('aria-rowcount', fitting.length + 1);
  if (focused) body.querySelector(`button[data-client="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

function measure(body) {
  body.replaceChildren(row({ id: '0', path: '/', since: now }, 0));
  rowHeight = body.rows[0].getBoundingClientRect().height || 33;
}

// Stands for so many rows.
function spacer(rows) {
  const cell = el('td');
  cell.style.height = `${rows * rowHeight}px`;
  return el('tr', { class: 'spacer', 'aria-hidden': 'true' }, cell);
}

function row(client, at) {
  const cells = COLUMNS.map((column) => {
    const text = column.value(client);
    const title = text.length > 20 ? text : null;
    if (column.name !== 'id') return el('td', { class: column.class, title }, text);
    const button = el('button', { type: 'button', class: 'link', 'data-client': client.id, click: () => select(client.id) }, text);
    return el('th', { scope: 'row', class: column.class }, button);
  });
  const isSelected = client.id === selected;
  return el('tr', { 'aria-rowindex': at + 2, class: isSelected ? 'selected' : null, click: () => select(client.id) }, ...cells);
}

// The arrows move from row to row.
function moveFocus(event) {
  const id = document.activeElement?.dataset?.client;
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!id || !step) return;
  const at = fitting.findIndex((client) => client.id === id) + step;
  if (at < 0 || at >= fitting.length) return;
  event.preventDefault();
  const box = byId('clients-rows');
  const head = byId('clients-table').tHead.getBoundingClientRect().height;
  const top = at * rowHeight;
  if (top < box.scrollTop) box.scrollTop = top;
  else if (top + rowHeight > box.scrollTop + box.clientHeight - head) box.scrollTop = top + rowHeight - box.clientHeight + head;
  render();
  document.querySelector(`button[data-client="${CSS.escape(fitting[at].id)}"]`)?.focus({ preventScroll: true });
}

function select(id) {
  if (id === selected) return;
  selected = id;
  const box = byId('client');
  const close = el('button', { type: 'button', class: 'quiet', click: unselect, 'aria-label': 'Close the details' }, 'Close');
  const title = el('h2', { id: 'client-title', class: 'mono', tabindex: '-1' }, id);
  const facts = el('dl', { class: 'facts' });
  const controls = el('div', { class: 'controls' });
  box.replaceChildren(el('header', {}, title, close), facts, controls);
  if (rights.has('tail')) {
    controls.append(el('button', { type: 'button', click: () => tail.showClient(id) }, 'Show its messages'));
  }
  if (rights.has('act')) controls.append(sendForm(id), disconnectForm(id));
  box.onkeydown = (event) => {
    if (event.key === 'Escape') unselect();
  };
  show(box, true);
  render();
  look();
  // Whoever has come by the keyboard goes on from here, and comes back to the row by Escape.
  title.focus({ preventScroll: true });
}

function unselect() {
  const id = selected;
  selected = null;
  show(byId('client'), false);
  render();
  document.querySelector(`button[data-client="${CSS.escape(id ?? '')}"]`)?.focus();
}

// Asks for the client that is looked at, again and again.
async function look() {
  clearTimeout(lookTimer);
  const id = selected;
  if (id === null || !isShown) return;
  let client = known.get(id) ?? null;
  // It is the first one of the list behind the id before its own, unless it has left. To ask for it by its id could be
  // answered with 404, which browsers show as an error of the page.
  const before = (BigInt(`0x${id}`) - 1n).toString(16).padStart(16, '0');
  try {
    const { items } = await ask('GET', `/api/v1/clients?limit=1&after=${before}`);
    client = items[0]?.id === id ? items[0] : null;
  } catch (error) {
    // It stays as it is known until wsgate answers again.
    if (!(error instanceof ApiError)) throw error;
  }
  if (id !== selected) return;
  describe(client);
  clearTimeout(lookTimer);
  if (client !== null) lookTimer = setTimeout(look, LOOK);
}

function describe(client) {
  const box = byId('client');
  box.classList.toggle('gone', client === null);
  if (client === null) {
    const facts = box.querySelector('.facts');
    if (!facts.querySelector('.error')) facts.prepend(el('div', { class: 'error' }, el('dt', {}, 'State'), el('dd', {}, 'It has left.')));
    show(box.querySelector('.controls'), false);
    return;
  }
  const since = Date.parse(client.connectedAt);
  const facts = [
    ['Path', client.path],
    ['Endpoint', client.endpoint],
    ['Identity', client.identity],
    ['Address', client.address ?? 'Unix socket'],
    ['Program', client.userAgent],
    ['Subprotocol', client.subprotocol],
    ['Connected', `${moment(since)}, for ${duration(Date.now() - since)}`],
    ['May', [client.maySend && 'send', client.mayReceive && 'receive'].filter(Boolean).join(' and ') || 'nothing'],
    ['Has sent', client.receivedMessages === undefined ? null : `${count(client.receivedMessages)} messages, ${bytes(client.receivedBytes)}`],
    ['Queued', bytes(client.queuedBytes)],
    ['Held by', client.heldBy],
    ['State', client.isClosing ? 'closing' : null],
  ].filter(([, value]) => value !== null && value !== undefined && value !== '');
  const list = box.querySelector('.facts');
  const names = [...list.querySelectorAll('dt')].map((name) => name.textContent);
  if (names.join() !== facts.map(([name]) => name).join()) {
    list.replaceChildren(...facts.map(([name]) => el('div', {}, el('dt', {}, name), el('dd'))));
  }
  const values = list.querySelectorAll('dd');
  facts.forEach(([, value], at) => write(values[at], value));
}
