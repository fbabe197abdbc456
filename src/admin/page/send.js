// What changes something: a message to a client or to a room, the end of a connection, a redial, the level of the log, a
// reload.

import { ApiError, ask } from '/page/api.js';
import { byId, el, write } from '/page/dom.js';
import { count } from '/page/format.js';

// The codes with which an operator can close a connection; 3000 to 4999 are the applications' own.
const CODES = [
  ['1008', '1008 Policy violation'], ['1000', '1000 Normal'], ['1001', '1001 Going away'], ['1011', '1011 Internal error'],
  ['1012', '1012 Service restart'], ['1013', '1013 Try again later'],
];

// A line under a form: what came of it.
function outcome() {
  return el('p', { class: 'outcome', role: 'status' });
}

async function tell(line, work) {
  line.classList.remove('error');
  write(line, '…');
  try {
    write(line, await work());
    return true;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    line.classList.add('error');
    write(line, error.message);
    return false;
  }
}

function textArea(label) {
  const area = el('textarea', { rows: '3', spellcheck: 'false', required: true });
  return { area, field: el('label', {}, label, area) };
}

// A message to one client.
export function sendForm(id) {
  const { area, field } = textArea('Message to this client');
  const line = outcome();
  const form = el('form', { 'data-form': 'send' }, field, el('button', { type: 'submit', class: 'primary' }, 'Send'), line);
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const isSent = await tell(line, async () => {
      await ask('POST', `/api/v1/clients/${id}/send`, area.value);
      return 'Sent.';
    });
    if (isSent) area.value = '';
  });
  return form;
}

// The end of one client's connection.
export function disconnectForm(id) {
  const code = el('select', {}, ...CODES.map(([value, text]) => el('option', { value }, text)));
  const reason = el('input', { type: 'text', value: 'Closed by the operator', maxlength: '123' });
  const line = outcome();
  const form = el('form', { 'data-form': 'disconnect' },
    el('label', {}, 'Close code', code), el('label', {}, 'Reason', reason),
    el('button', { type: 'submit', class: 'danger' }, 'Disconnect'), line);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const query = new URLSearchParams({ code: code.value, reason: reason.value });
    tell(line, async () => {
      await ask('DELETE', `/api/v1/clients/${id}?${query}`);
      return 'Closed.';
    });
  });
  return form;
}

// Has wsgate read again what SIGHUP reads, and says in this line what came of it.
export function reload(line) {
  return tell(line, async () => {
    const { reloaded } = await ask('POST', '/api/v1/reload', '');
    return reloaded.length > 0 ? `Read again: ${reloaded.join('; ')}.` : 'There was nothing to read again.';
  });
}

// Has a link dialled at once, and says so in this line.
export function redial(name, line) {
  return tell(line, async () => {
    await ask('POST', `/api/v1/links/${encodeURIComponent(name)}/redial`, '');
    return `${name} is about to be dialled.`;
  });
}

// The levels of the log that were asked for.
let levels = {};

// Shows in this <select> which level was asked for.
export async function showLevel(select) {
  levels = await ask('GET', '/api/v1/log');
  select.value = levels.level ?? '';
}

// Has the log show this level; the levels of parts and endpoints that were asked for stay.
export function askLevel(select, line) {
  return tell(line, async () => {
    const wanted = { ...levels, level: select.value === '' ? null : select.value };
    levels = await ask('PUT', '/api/v1/log', JSON.stringify(wanted), 'application/json');
    return levels.level === null ? 'The configuration decides.' : `The level is ${levels.level} until the next reload.`;
  });
}

// A message to a room of an endpoint, whose path may have parameters to fill in.
export function sendToRoom(endpoint) {
  const path = el('input', { type: 'text', value: endpoint, required: true, spellcheck: 'false', class: 'mono' });
  const { area, field } = textArea('Message');
  const line = outcome();
  const close = el('button', { type: 'button', class: 'quiet' }, 'Close');
  const hint = endpoint.includes('{') ? 'Write the value of each {parameter}. The message goes to everybody in this room.' : 'The message goes to everybody at this path.';
  const form = el('form', { 'data-form': 'publish' },
    el('h2', { id: 'publish-title' }, 'Send to a room'),
    el('label', {}, 'Path', path), el('p', { class: 'muted' }, hint), field,
    el('div', { class: 'fields' }, el('button', { type: 'submit', class: 'primary' }, 'Send'), close), line);
  const dialog = el('dialog', { 'aria-labelledby': 'publish-title' }, form);
  close.addEventListener('click', () => dialog.close());
  dialog.addEventListener('close', () => dialog.remove());
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const encoded = path.value.replace(/^\//, '').split('/').map(encodeURIComponent).join('/');
    const isSent = await tell(line, async () => {
      const { clients } = await ask('POST', `/api/v1/publish/${encoded}`, area.value);
      return clients === 1 ? 'Sent to 1 client.' : `Sent to ${count(clients)} clients.`;
    });
    if (isSent) area.value = '';
  });
  byId('main').append(dialog);
  dialog.showModal();
}
