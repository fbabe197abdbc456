// The page: who is here, which view is shown, and the feed that all views live on.

import { ApiError, ask, connect, credential } from '/page/api.js';
import { byId, show, write } from '/page/dom.js';
import { count } from '/page/format.js';
import * as clients from '/page/clients.js';
import * as overview from '/page/overview.js';
import * as tail from '/page/tail.js';

const VIEWS = { overview, clients, tail };

// The waits before the feed is opened again, in milliseconds.
const RETRY_FIRST = 500;
const RETRY_MOST = 10_000;

let feed = null;
let retry = RETRY_FIRST;
let retryTimer = null;
// What the caller may do; null before it is known.
let rights = null;

function setStatus(state, text) {
  byId('status').dataset.state = state;
  write(byId('status'), text);
}

function notify(text) {
  write(byId('notice'), text);
  show(byId('notice'), text !== '');
}

// The view that the address names.
function wanted() {
  const name = location.hash.slice(1).split('?')[0];
  return name in VIEWS ? name : 'overview';
}

function showView() {
  const name = rights === null ? null : wanted();
  for (const [own, view] of Object.entries(VIEWS)) {
    const isShown = own === name;
    const link = document.querySelector(`#views a[href="#${own}"]`);
    if (isShown) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
    show(byId(`view-${own}`), isShown);
    view.shown(isShown);
  }
  show(byId('views'), rights !== null);
}

function signIn(message) {
  clearTimeout(retryTimer);
  rights = null;
  showView();
  notify('');
  setStatus('off', 'Signed out');
  write(byId('who'), '');
  show(byId('sign-out'), false);
  write(byId('sign-in-error'), message);
  show(byId('sign-in-error'), message !== '');
  show(byId('sign-in'), true);
  byId('sign-in-secret').focus();
}

function hello(message) {
  rights = new Set(message.rights);
  retry = RETRY_FIRST;
  notify('');
  setStatus('good', 'Live');
  write(byId('who'), message.name ?? '');
  show(byId('sign-out'), credential.get() !== null);
  show(byId('sign-in'), false);
  for (const view of Object.values(VIEWS)) view.hello(message, rights);
  showView();
}

function sample(message) {
  const { info } = message;
  const name = info.name ?? location.host;
  write(byId('gateway-name'), name);
  document.title = `${name} · wsgate`;
  write(byId('clients-badge'), count(info.clients));
  setStatus(info.isReady ? 'good' : 'bad', info.isReady ? 'Live' : 'Not ready');
  for (const view of Object.values(VIEWS)) view.sample(message);
}

// Opens the feed. Why a WebSocket fails no script is told, so an ordinary request finds it out first.
async function open() {
  clearTimeout(retryTimer);
  try {
    await ask('GET', '/api/v1/info');
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) {
      const wasWrong = credential.get() !== null;
      credential.forget();
      return signIn(wasWrong ? 'This credential is wrong.' : '');
    }
    return again(error.message);
  }
  const socket = connect('/api/v1/feed');
  feed = socket;
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.type === 'hello') hello(message);
    else if (message.type === 'sample') sample(message);
  };
  socket.onclose = (event) => {
    // Another one may have taken its place.
    if (feed !== socket) return;
    feed = null;
    again(event.reason ? `The feed has ended: ${event.reason}` : 'The connection to wsgate is lost');
  };
}

function again(why) {
  setStatus('bad', 'Not connected');
  notify(`${why}. Trying again.`);
  retryTimer = setTimeout(open, retry * (0.5 + Math.random() / 2));
  retry = Math.min(2 * retry, RETRY_MOST);
}

function signOut() {
  credential.forget();
  const socket = feed;
  feed = null;
  socket?.close(1000);
  signIn('');
}

byId('sign-in-form').addEventListener('submit', (event) => {
  event.preventDefault();
  credential.set(byId('sign-in-secret').value, byId('sign-in-name').value.trim());
  byId('sign-in-secret').value = '';
  open();
});
byId('sign-out').addEventListener('click', signOut);
byId('skip').addEventListener('click', (event) => {
  // The address names the view.
  event.preventDefault();
  byId('main').focus();
});
addEventListener('hashchange', showView);
for (const view of Object.values(VIEWS)) view.start();
showView();
open();
