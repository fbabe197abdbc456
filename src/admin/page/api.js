// The way to wsgate: requests and WebSockets, with the credential that was typed in. It is kept in sessionStorage, which
// belongs to this tab and ends with it.

const KEY = 'wsgate.credential';

// An answer that says why not, or none.
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// UTF-8 in base64.
function base64(text) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

export const credential = {
  // What is sent as Authorization; null if nothing was typed in.
  get: () => sessionStorage.getItem(KEY),
  // A token, or the password of a name.
  set: (secret, name) => sessionStorage.setItem(KEY, name ? `Basic ${base64(`${name}:${secret}`)}` : `Bearer ${secret}`),
  forget: () => sessionStorage.removeItem(KEY),
};

// Asks, and gives the JSON of the answer; null for an answer without one.
export async function ask(method, path, body, type = 'text/plain; charset=utf-8') {
  const headers = {};
  const authorization = credential.get();
  if (authorization) headers.Authorization = authorization;
  if (body !== undefined) headers['Content-Type'] = type;
  let response;
  try {
    response = await fetch(path, { method, headers, body, cache: 'no-store' });
  } catch {
    throw new ApiError(0, 'wsgate does not answer');
  }
  const text = await response.text();
  let json = null;
  try {
    json = text === '' ? null : JSON.parse(text);
  } catch {
    // Not from the API: a proxy, perhaps.
  }
  if (!response.ok) {
    const { message, mistakes = [] } = json?.error ?? {};
    throw new ApiError(response.status, [message ?? `the answer was ${response.status}`, ...mistakes].join(': '));
  }
  return json;
}

// All items of a list, page by page; `each` gets those of one page.
export async function list(path, each) {
  let after = null;
  do {
    const cursor = after === null ? '' : `&after=${encodeURIComponent(after)}`;
    const page = await ask('GET', `${path}?limit=1000${cursor}`);
    each(page.items);
    after = page.next;
  } while (after !== null);
}

// A WebSocket to this path. A script cannot set Authorization there: the credential goes as a subprotocol.
export function connect(path) {
  const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
  const protocols = ['wsgate.admin'];
  const authorization = credential.get();
  if (authorization) {
    const secret = authorization.slice(authorization.indexOf(' ') + 1);
    const encoded = base64(secret).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
    protocols.push(`wsgate.bearer.${encoded}`);
  }
  return new WebSocket(`${scheme}//${location.host}${path}`, protocols);
}
