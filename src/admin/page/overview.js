// The first view: figures, charts, endpoints, links and listeners.

import { ApiError } from '/page/api.js';
import { byId, el, fillRows, show, write } from '/page/dom.js';
import { bytes, count, duration, rate } from '/page/format.js';
import * as charts from '/page/charts.js';
import * as clients from '/page/clients.js';
import { askLevel, redial, reload, sendToRoom, showLevel } from '/page/send.js';
import * as tail from '/page/tail.js';

const FIGURES = [
  ['Clients', ({ info }) => count(info.clients)],
  ['Connections', ({ info }) => `${count(info.connections)} / ${count(info.maxConnections)}`],
  ['Received', ({ rates }) => `${rate(rates.receivedMessages)} /s`],
  ['Sent', ({ rates }) => `${rate(rates.sentMessages)} /s`],
  ['Dropped', ({ rates }) => `${rate(rates.droppedMessages)} /s`],
  ['Uptime', ({ info }) => duration(info.uptimeSeconds * 1000)],
  ['Version', ({ info }) => info.version],
];

let rights = new Set();
let isShown = false;
let latest = null;

export function start() {
  charts.start();
  byId('reload-button').addEventListener('click', async () => {
    // Levels that were asked for end with it.
    if (await reload(byId('reload-outcome'))) lookAtLevel();
  });
  byId('log-level').addEventListener('change', () => askLevel(byId('log-level'), byId('log-outcome')));
  byId('figures').replaceChildren(...FIGURES.map(([name]) => el('div', {}, el('dt', {}, name), el('dd', {}, '–'))));
}

export function hello(message, mayDo) {
  rights = mayDo;
  charts.begin(message.history);
  show(byId('reload'), rights.has('act'));
  show(byId('log'), rights.has('act'));
  lookAtLevel();
}

// Without an answer it shows what it has shown before.
async function lookAtLevel() {
  try {
    await showLevel(byId('log-level'));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
}

export function shown(value) {
  isShown = value;
  charts.shown(value);
  if (isShown && latest !== null) render();
}

export function sample(message) {
  latest = message;
  charts.append(Math.round(message.at / 1000), { clients: message.info.clients, ...message.rates });
  if (isShown) render();
}

function render() {
  const values = byId('figures').querySelectorAll('dd');
  FIGURES.forEach(([, value], at) => write(values[at], value(latest)));
  const { info, links, endpointRates } = latest;
  const endpoints = info.endpoints.map((endpoint, at) => ({ ...endpoint, rates: endpointRates[at] }));
  fillRows(byId('endpoints').tBodies[0], endpoints, endpointRow, writeEndpoint);
  fillRows(byId('links').tBodies[0], links, linkRow, writeLink);
  show(byId('links'), links.length > 0);
  show(byId('no-links'), links.length === 0);
  fillRows(byId('listeners').tBodies[0], info.listeners, () => el('tr', {}, el('th', { scope: 'row' }), el('td', { class: 'mono' }), el('td')), writeListener);
}

function endpointRow() {
  const row = el('tr', {},
    el('th', { scope: 'row', class: 'mono' }, el('span'), el('small', { class: 'muted' })),
    el('td', { class: 'number' }, el('span'), el('small', { class: 'muted' }), el('meter', { min: '0' })),
    ...Array.from({ length: 5 }, () => el('td', { class: 'number' })),
    el('td', { class: 'muted' }), el('td', { class: 'actions' }));
  const button = (text, act) => el('button', { type: 'button', class: 'quiet', click: () => act(row.endpoint) }, text);
  row.lastElementChild.append(
    button('Clients', clients.showEndpoint), button('Tail', tail.showEndpoint), button('Send', sendToRoom));
  return titled(row, 'endpoints');
}

// Gives the cells of a row the titles of their columns, which they show themselves on a phone.
function titled(row, table) {
  [...byId(table).tHead.rows[0].cells].forEach((title, at) => row.cells[at].setAttribute('data-title', title.textContent));
  return row;
}

function writeEndpoint(row, endpoint) {
  const { path, activeConnections, maxConnections, rates } = endpoint;
  row.endpoint = path;
  const [name, clientCells, received, sent, inBytes, outBytes, dropped, listeners, actions] = row.cells;
  write(name.firstElementChild, path);
  write(name.lastElementChild, endpoint.relay === null ? '' : `relay to ${endpoint.relay}`);
  write(clientCells.children[0], count(activeConnections));
  write(clientCells.children[1], ` of ${count(maxConnections)}`);
  const meter = clientCells.children[2];
  meter.max = maxConnections;
  meter.high = maxConnections * 0.9;
  meter.value = activeConnections;
  meter.setAttribute('aria-label', `clients of '${path}'`);
  write(received, rates ? rate(rates.receivedMessages) : '–');
  write(sent, rates ? rate(rates.sentMessages) : '–');
  write(inBytes, rates ? bytes(rates.receivedBytes) : '–');
  write(outBytes, rates ? bytes(rates.sentBytes) : '–');
  write(dropped, rates ? rate(rates.droppedMessages) : '–');
  dropped.classList.toggle('bad', Boolean(rates && rates.droppedMessages > 0));
  write(listeners, endpoint.listeners.join(', '));
  for (const [at, action] of ['Show the clients', 'Show the messages', 'Send to a room'].entries()) {
    actions.children[at].setAttribute('aria-label', `${action} of '${path}'`);
  }
  show(actions.children[1], rights.has('tail'));
  show(actions.children[2], rights.has('act') && endpoint.relay === null);
}

function linkRow() {
  const row = el('tr', {}, el('th', { scope: 'row' }), el('td', {}, el('span', { class: 'state' })), el('td', { class: 'mono server' }),
    ...Array.from({ length: 3 }, () => el('td', { class: 'number' })), el('td', { class: 'failure' }), el('td', { class: 'actions' }));
  const act = () => redial(row.link, byId('links-outcome'));
  row.lastElementChild.append(el('button', { type: 'button', class: 'quiet', click: act }, 'Redial'));
  return titled(row, 'links');
}

const LINK_STATES = { up: ['good', 'Connected'], down: ['bad', 'Down'], givenUp: ['bad', 'Given up'] };

function writeLink(row, link) {
  row.link = link.name;
  const [name, state, server, received, sent, dropped, failure, actions] = row.cells;
  const [mood, words] = LINK_STATES[link.state] ?? ['bad', link.state];
  write(name, link.name);
  state.firstElementChild.dataset.state = mood;
  write(state.firstElementChild, words);
  write(server, link.url);
  write(received, count(link.receivedMessages));
  write(sent, count(link.sentMessages));
  write(dropped, count(link.droppedMessages));
  const last = link.lastFailure;
  write(failure, last ? `${duration(latest.at - Date.parse(last.at))} ago: ${last.message}` : '');
  actions.firstElementChild.setAttribute('aria-label', `Redial '${link.name}'`);
  show(actions.firstElementChild, rights.has('act'));
}

function writeListener(row, listener) {
  const [name, address, tls] = row.cells;
  write(name, listener.name);
  write(address, listener.address);
  write(tls, listener.tls ? 'yes' : 'no');
}
