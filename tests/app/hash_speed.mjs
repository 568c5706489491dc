// How long a browser takes to read and hash stored pieces, as `openStored` (bundle/app/src/stored.ts)
// does before each load: milliseconds for 100 MiB in pieces of 10 MiB. One JSON object on stdout.
//
// usage: POCKETGPT_CHROMIUM=PATH node tests/app/hash_speed.mjs

import { createServer } from 'node:http';
import { chromium } from 'playwright-core';

const server = createServer((_, response) => {
  response.setHeader('Content-Type', 'text/html');
  response.end('<!doctype html>');
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const browser = await chromium.launch({
  executablePath: process.env.POCKETGPT_CHROMIUM ?? 'chromium',
  args: ['--no-sandbox'],
});
const page = await browser.newPage();
await page.goto(`http://127.0.0.1:${server.address().port}/`);
const times = await page.evaluate(async () => {
  const root = await navigator.storage.getDirectory();
  const files = Array.from({ length: 10 }, (_, at) => `${at}.dat`);
  for (const [at, name] of files.entries()) {
    const bytes = new Uint8Array(10 << 20).map((_, byte) => byte * (at + 1));
    const out = await (await root.getFileHandle(name, { create: true })).createWritable();
    await out.write(bytes);
    await out.close();
  }
  const times = [];
  for (let round = 0; round < 7; round++) {
    const begun = performance.now();
    const queue = files.values();
    const work = async () => {
      for (const name of queue) {
        const file = await (await root.getFileHandle(name)).getFile();
        await crypto.subtle.digest('SHA-256', await file.arrayBuffer());
      }
    };
    await Promise.all([work(), work(), work(), work()]);
    times.push(performance.now() - begun);
  }
  return times;
});
await browser.close();
server.close();
const [least, median] = [0, 3].map((at) => Math.round(times.toSorted((a, b) => a - b)[at]));
console.log(JSON.stringify({ ms_per_100_mib: median, least, version: browser.version() }));
