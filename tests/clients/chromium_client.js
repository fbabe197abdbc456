// chromium_client.js PLAIN_PORT TLS_PORT CA_FILE [PAGE TOKEN [CERTIFICATE KEY]]: what headless Chromium makes of a gateway.
//
// Serves PAGE, or chromium_page.html, and checks.js on a port of its own, opens the page in a fresh browser
// profile and prints what it posts: `ok NAME` for each check. A failure or silence ends the run
// with its reason and exit status 1. CHROMIUM names another browser than `chromium`.
//
// With a TOKEN the page is told it, and has it in the cookie `session`. It may go on at foreign.example, which is this
// machine too. With a CERTIFICATE and its KEY the page is served over TLS, and the cookie is for TLS alone.
'use strict';

const { spawn } = require('node:child_process');
const { createHash, X509Certificate } = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const os = require('node:os');
const path = require('node:path');

// The longest that the page may be silent, the browser's start included, in milliseconds.
const DEADLINE = 60_000;

const [plainPort, tlsPort, caFile, pageFile = 'chromium_page.html', token, certificate, pageKey] = process.argv.slice(2);
const page = fs.readFileSync(path.join(__dirname, pageFile));
const checks = fs.readFileSync(path.join(__dirname, 'checks.js'));
const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'wsgate-chromium-'));

// A browser has no option for an extra authority, but it can be told to accept certificate
// chains that hold one known key. Every other certificate error stays one.
const key = new X509Certificate(fs.readFileSync(caFile)).publicKey.export({ type: 'spki', format: 'der' });
const accepted = createHash('sha256').update(key).digest('base64');

let browser;
let browserSaid = '';
let silence;

function end(status, reason) {
  clearTimeout(silence);
  server.close();
  server.closeAllConnections();
  if (reason) console.error(reason);
  // Without a desktop the browser complains a lot about the missing D-Bus, which hides the rest.
  const said = browserSaid.split('\n').filter((line) => line && !/bus/i.test(line));
  if (status !== 0 && said.length > 0) console.error(`the browser said:\n${said.join('\n')}`);
  process.exitCode = status;
  if (!browser) return clean();
  // The browser is the head of a process group of its own, helpers and all. Only when the
  // last of them is gone does its standard error close, and nobody writes the profile any more.
  browser.removeAllListeners('exit');
  browser.once('close', clean);
  try {
    process.kill(-browser.pid, 'SIGKILL');
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

const clean = () => fs.rmSync(profile, { recursive: true, force: true });

function awaitPage() {
  clearTimeout(silence);
  silence = setTimeout(() => end(1, `the page was silent for ${DEADLINE} ms`), DEADLINE);
}

const serve = (request, response) => {
  if (request.method === 'GET' && request.url.startsWith('/?')) {
    const secure = certificate ? ' Secure;' : '';
    if (token) response.setHeader('Set-Cookie', `session=${token}; HttpOnly;${secure} SameSite=Strict; Path=/`);
    response.setHeader('Content-Type', 'text/html').end(page);
    return;
  }
  if (request.method === 'GET' && request.url === '/checks.js') {
    response.setHeader('Content-Type', 'text/javascript; charset=utf-8').end(checks);
    return;
  }
  if (request.method !== 'POST' || request.url !== '/result') {
    response.writeHead(404).end();
    return;
  }
  let line = '';
  request.setEncoding('utf8').on('data', (part) => (line += part));
  request.on('end', () => {
    response.end();
    if (line === 'end') return end(0);
    if (!line.startsWith('ok ')) return end(1, line);
    console.log(line);
    awaitPage();
  });
};

const files = certificate && { cert: fs.readFileSync(certificate), key: fs.readFileSync(pageKey) };
const server = files ? https.createServer(files, serve) : http.createServer(serve);

server.listen(0, '127.0.0.1', () => {
  const options = [
    '--headless',
    '--disable-gpu',
    '--disable-dev-shm-usage', // containers have 64 MiB there, too little for a page
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-quic',
    '--disable-sync',
    '--no-first-run',
    '--no-proxy-server',
    '--enable-logging=stderr',
    '--host-resolver-rules=MAP foreign.example 127.0.0.1',
    `--user-data-dir=${profile}`,
    `--ignore-certificate-errors-spki-list=${accepted}`,
  ];
  // Chromium's sandbox refuses to work for root, as which CI machines run their tests.
  if (process.getuid() === 0) options.push('--no-sandbox');
  const secret = token ? `&token=${token}` : '';
  const url = `${files ? 'https' : 'http'}://localhost:${server.address().port}/?plain=${plainPort}&tls=${tlsPort}${secret}`;
  browser = spawn(process.env.CHROMIUM ?? 'chromium', [...options, url], {
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  browser.stderr.setEncoding('utf8').on('data', (part) => (browserSaid = (browserSaid + part).slice(-64_000)));
  browser.on('error', (error) => {
    browser = undefined;
    end(1, `failed to start Chromium: ${error.message} (tests/install-clients.sh installs it)`);
  });
  browser.on('exit', (code) => end(1, `the browser ended by itself (exit status ${code})`));
  awaitPage();
});
