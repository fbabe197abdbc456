// The tail: what clients send, while somebody looks.

import { connect } from '/page/api.js';
import { byId, el, setOptions, show, write } from '/page/dom.js';
import { bytes, clock, count } from '/page/format.js';

// Messages that are kept here; older ones are forgotten.
const KEPT = 500;

// What is waited before the tail is opened anew, in milliseconds: after it was lost, and while a filter is typed in.
const RETRY = 2000;
const TYPING = 400;

let mayTail = false;
let isShown = false;
let socket = null;
let timer = null;
let isPaused = false;
// What has come since the last frame, or since the pause, the newest last.
let waiting = [];
let isScheduled = false;
let received = 0;
let leftOut = 0;

export function start() {
  byId('tail-tools').addEventListener('submit', (event) => event.preventDefault());
  byId('tail-endpoint').addEventListener('change', reopen);
  for (const id of ['tail-path', 'tail-client']) {
    byId(id).addEventListener('input', () => {
      clearTimeout(timer);
      timer = setTimeout(reopen, TYPING);
    });
  }
  byId('tail-pause').addEventListener('click', () => pause(!isPaused));
  byId('tail-clear').addEventListener('click', clear);
}

export function hello(_, rights) {
  mayTail = rights.has('tail');
  show(byId('tail-link'), mayTail);
  if (isShown) reopen();
}

export function sample(message) {
  setOptions(byId('tail-endpoint'), message.info.endpoints.map((endpoint) => endpoint.path));
}

export function shown(value) {
  if (value === isShown) return;
  isShown = value;
  if (isShown) reopen();
  else close();
}

// Shows what the clients of an endpoint send.
export function showEndpoint(path) {
  filter(path, '', '');
}

// Shows what one client sends.
export function showClient(id) {
  filter('', '', id);
}

function filter(endpoint, path, client) {
  byId('tail-endpoint').value = endpoint;
  byId('tail-path').value = path;
  byId('tail-client').value = client;
  pause(false);
  clear();
  if (isShown) reopen();
  else location.hash = '#tail';
}

function close() {
  clearTimeout(timer);
  const old = socket;
  socket = null;
  old?.close(1000);
}

function reopen() {
  close();
  if (!isShown) return;
  if (!mayTail) return write(byId('tail-note'), 'You have no right to see the messages of clients.');
  const parameters = new URLSearchParams();
  for (const name of ['endpoint', 'path', 'client']) {
    const value = byId(`tail-${name}`).value.trim();
    if (value !== '') parameters.set(name, value);
  }
  const client = parameters.get('client');
  if (client !== null && !/^[0-9a-f]{16}$/.test(client)) {
    return write(byId('tail-note'), 'The id of a client has 16 digits, 0 to 9 and a to f.');
  }
  const query = parameters.size > 0 ? `?${parameters}` : '';
  const own = connect(`/api/v1/tail${query}`);
  socket = own;
  write(byId('tail-note'), 'Connecting');
  own.onopen = () => socket === own && write(byId('tail-note'), waitsFor());
  own.onmessage = (event) => socket === own && take(JSON.parse(event.data));
  own.onclose = (event) => {
    if (socket !== own) return;
    socket = null;
    write(byId('tail-note'), event.reason ? `The tail has ended: ${event.reason}` : 'The tail is not connected. Trying again.');
    timer = setTimeout(reopen, RETRY);
  };
}

function waitsFor() {
  return 'At most 200 messages a second are shown, and 4 KiB of each.';
}

function take(message) {
  if (message.type === 'leftOut') leftOut += message.messages;
  else received += 1;
  waiting.push(message);
  if (waiting.length > KEPT) waiting.shift();
  if (isPaused) counts();
  else schedule();
}

// Once for each frame of the screen, however many have come.
function schedule() {
  if (isScheduled) return;
  isScheduled = true;
  requestAnimationFrame(() => {
    isScheduled = false;
    if (!isPaused) render();
  });
}

function render() {
  const rows = byId('tail-rows');
  const box = rows.scrollTop;
  const before = rows.scrollHeight;
  rows.prepend(...waiting.reverse().map(row));
  waiting = [];
  while (rows.children.length > KEPT) rows.lastElementChild.remove();
  // Whoever has scrolled down reads on where he is.
  if (box > 0) rows.scrollTop = box + rows.scrollHeight - before;
  counts();
}

function row(message) {
  if (message.type === 'leftOut') return el('li', { class: 'left-out' }, `${count(message.messages)} messages left out`);
  const isText = message.text !== undefined;
  const shownBytes = isText ? new TextEncoder().encode(message.text).length : atob(message.base64).length;
  const size = shownBytes < message.bytes ? `first ${bytes(shownBytes)} of ${bytes(message.bytes)}` : bytes(message.bytes);
  const details = [
    el('time', {}, clock(message.at)),
    el('span', { class: 'path' }, message.path),
    message.identity === null ? null : el('span', {}, message.identity),
    el('button', { type: 'button', class: 'link mono', click: () => showClient(message.client), 'aria-label': `Only client ${message.client}` }, message.client),
    el('span', { class: 'muted' }, isText ? size : `binary, ${size}`),
  ];
  return el('li', {}, el('div', { class: 'head' }, ...details.filter(Boolean)), el('pre', { tabindex: '-1' }, isText ? message.text : hex(message.base64)));
}

// Binary data as rows of 16 bytes in hex, which have room on a phone.
function hex(base64) {
  const digits = [...atob(base64)].map((byte) => byte.charCodeAt(0).toString(16).padStart(2, '0'));
  const lines = [];
  for (let at = 0; at < digits.length; at += 16) lines.push(digits.slice(at, at + 16).join(' '));
  return lines.join('\n');
}

function counts() {
  const parts = [`${count(received)} shown`];
  if (leftOut > 0) parts.push(`${count(leftOut)} left out`);
  if (isPaused && waiting.length > 0) parts.push(`${count(waiting.length)}${waiting.length === KEPT ? ' or more' : ''} waiting`);
  write(byId('tail-count'), parts.join(', '));
}

function pause(value) {
  isPaused = value;
  const button = byId('tail-pause');
  button.setAttribute('aria-pressed', String(value));
  write(button, value ? 'Go on' : 'Pause');
  if (!value) render();
}

function clear() {
  waiting = [];
  received = 0;
  leftOut = 0;
  byId('tail-rows').replaceChildren();
  counts();
}
