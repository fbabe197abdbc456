// chromium_posts.js PORT: posts from pages in Chromium, of the same host and of a foreign one.
//
// A page of http://localhost counts as the same host as a gateway on 127.0.0.1; foreign.example is this machine too. It
// prints what comes of each request: the status, or that the page has learnt none.
'use strict';

const http = require('node:http');

const { launch } = require('./chromium.js');

const [port] = process.argv.slice(2);

const pages = http.createServer((request, response) => {
  response.setHeader('Content-Type', 'text/html');
  response.end('<!doctype html><title>posts</title>');
});

const post = (path, type, from) => `
  fetch('http://127.0.0.1:${port}${path}', {
    method: 'POST',
    headers: { 'Content-Type': '${type}' },
    body: JSON.stringify({ from: '${from}' }),
  }).then((answer) => String(answer.status), () => 'failed')`;

async function main() {
  await new Promise((resolve) => pages.listen(0, '127.0.0.1', resolve));
  const browser = await launch(['--host-resolver-rules=MAP foreign.example 127.0.0.1']);
  try {
    const own = await browser.open(`http://localhost:${pages.address().port}/`);
    console.log('own:', await own.evaluate(post('/rooms/7', 'application/json', 'own')));
    const foreign = await browser.open(`http://foreign.example:${pages.address().port}/`);
    console.log('foreign:', await foreign.evaluate(post('/rooms/7', 'application/json', 'foreign')));
    console.log('foreign text:', await foreign.evaluate(post('/rooms/7', 'text/plain', 'foreign')));
    console.log('foreign, any:', await foreign.evaluate(post('/any', 'application/json', 'foreign')));
  } finally {
    await browser.close();
    pages.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
