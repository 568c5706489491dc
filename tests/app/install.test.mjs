// From nothing to an answer, with whatever can go wrong on the way.

import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { after, test } from 'node:test';

import {
  browser,
  bundle,
  expectedTokens,
  install,
  installed,
  offered,
  open,
  ready,
  say,
  screenshot,
  selfTestTokens,
  small,
  storedFragments,
  until,
  visit,
} from './harness.mjs';
import { TWIN } from './recut.mjs';

after(() => browser.close());

const isFragment = (path) => path.endsWith('.dat');
const fragments = (server) => server.requests.filter(({ path }) => isFragment(path));
const [first] = small.variants;

test('the first start shows size, need and progress; the answer is the recorded one', async (t) => {
  const { page, server, errors, hosts } = await open(t, { pieces: true, threads: null });
  const card = offered(page, first.recipe);
  await card.waitFor();
  assert.match(await card.textContent(), /Download.*MB.*Memory in use.*MB/s);
  assert.equal(fragments(server).length, 0, 'nothing may be fetched before the user says so');
  server.faults.delay = (path) => (isFragment(path) ? 100 : 0);
  await card.getByRole('button').first().click();
  const progress = page.getByRole('progressbar');
  await progress.waitFor();
  await page.waitForFunction(() => document.querySelector('progress')?.value > 0);
  await page.locator('.figures', { hasText: /of .*MB.*\/s.*left/ }).waitFor();
  await screenshot(page, 'first-start');
  server.faults.delay = () => 0;
  await ready(page);
  assert.deepEqual(await selfTestTokens(page), expectedTokens(small, first.recipe));
  assert.deepEqual([...hosts], [new URL(server.url).host]);
  assert.deepEqual(errors, []);
});

for (const { recipe } of bundle.variants) {
  test(`${recipe} of the bundle as it was packed says what it said then`, async (t) => {
    const { page, server, errors } = await open(t);
    await install(page, recipe);
    assert.deepEqual(await selfTestTokens(page), expectedTokens(bundle, recipe));
    // Both engines are in the build, and only the one that is needed is fetched.
    const engines = server.requests.filter(({ path }) => path.endsWith('.z'));
    assert.equal(engines.length, 1);
    assert.match(engines[0].path, /\/wasm-/);
    assert.deepEqual(errors, []);
  });
}

test('after the first start no network is needed', async (t) => {
  const { page, server } = await open(t, { pieces: true });
  await install(page, first.recipe);
  await page.evaluate(() => navigator.serviceWorker.ready);
  await server.stop();
  await page.reload();
  await ready(page);
  assert.notEqual(await say(page, 'The'), '');
  await visit(page, 'models');
  await page.getByText('cannot be reached').waitFor();
});

test('a piece that is damaged on the way is fetched again', async (t) => {
  const { page, server } = await open(t, { pieces: true });
  const seen = new Set();
  server.faults.damage = (path) =>
    isFragment(path) && seen.size < 3 && !seen.has(path) && seen.add(path);
  await install(page, first.recipe);
  const counts = [...seen].map((path) => server.requests.filter((one) => one.path === path).length);
  assert.deepEqual(counts, [2, 2, 2]);
});

test('a piece that is damaged on the server is never stored, and the page says so', async (t) => {
  const { page, server } = await open(t, { pieces: true });
  const [bad] = small.files.filter(({ path }) => isFragment(path));
  server.faults.damage = (path) => path === `/${bad.path}`;
  await offered(page, first.recipe).getByRole('button').first().click();
  await page.getByText('is damaged on the server').waitFor();
  assert.ok(!(await storedFragments(page)).includes(bad.path.split('/').pop()));
  assert.equal(await installed(page, first.recipe).count(), 0);
  server.faults.damage = () => false;
  await install(page, first.recipe);
});

test('a connection that is cut goes on where it broke', async (t) => {
  const { page, server } = await open(t, { pieces: true });
  const cuts = new Set();
  server.faults.delay = (path) => (isFragment(path) ? 20 : 0);
  server.faults.cut = (path) => {
    if (!isFragment(path) || cuts.size >= 3 || cuts.has(path)) return null;
    cuts.add(path);
    return 100_000;
  };
  await install(page, first.recipe);
  const seconds = [...cuts].map((path) => {
    const starts = server.requests.filter((one) => one.path === path).map(({ start }) => start);
    assert.equal(starts[0], 0);
    assert.ok(starts[1] <= 100_000, `${starts}`);
    return starts[1];
  });
  // A slow page may lose what it had not read yet, but not every time.
  assert.ok(
    seconds.some((start) => start > 0),
    `${seconds}`,
  );
});

test('a download that is cancelled resumes, also after a reload', async (t) => {
  const { page, server } = await open(t, { pieces: true });
  server.faults.delay = (path) => (isFragment(path) ? 100 : 0);
  await offered(page, first.recipe).getByRole('button').first().click();
  await until(async () => (await storedFragments(page)).length >= 4);
  await page.getByRole('button', { name: 'Cancel' }).click();
  const resume = offered(page, first.recipe).getByRole('button', { name: /^Resume/ });
  await resume.waitFor();
  const kept = await storedFragments(page);
  await page.reload();
  server.faults.delay = () => 0;
  server.requests.length = 0;
  await resume.click();
  await ready(page);
  const again = fragments(server).filter(({ path }) => kept.includes(path.split('/').pop()));
  assert.deepEqual(again, [], 'what was here is not fetched again');
  assert.deepEqual(await selfTestTokens(page), expectedTokens(small, first.recipe));
});

test('a second variant fetches only what the first one does not have', async (t) => {
  const { page, server } = await open(t, { pieces: true });
  await install(page, first.recipe);
  await visit(page, 'models');
  server.requests.length = 0;
  // Pieces of it are here, but nobody began to download it.
  const card = offered(page, TWIN);
  assert.equal(await card.getByRole('button', { name: /^(Resume|Discard)/ }).count(), 0);
  await card.getByRole('button', { name: /^Download/ }).click();
  await ready(page);
  assert.equal(fragments(server).length, 1);
  assert.deepEqual(await selfTestTokens(page), expectedTokens(small, TWIN));
  await visit(page, 'models');
  await screenshot(page, 'models');
  // Removing one keeps what the other one needs.
  await installed(page, first.recipe).getByRole('button', { name: 'Remove' }).click();
  await offered(page, first.recipe).waitFor();
  const manifest = await (
    await fetch(new URL(`../model/${TWIN}.manifest.json`, server.url))
  ).json();
  const files = manifest.fragments.map(({ file }) => file);
  assert.deepEqual(await storedFragments(page), [...new Set(files)].sort());
  await installed(page, TWIN).getByRole('button', { name: 'Remove' }).click();
  await page.getByText('No model is on this device yet').waitFor();
  assert.deepEqual(await storedFragments(page), []);
});

test('a full storage is said plainly, and the download resumes once there is room', async (t) => {
  const { page, server, context } = await open(t, { pieces: true });
  await offered(page, first.recipe).waitFor();
  const devtools = await context.newCDPSession(page);
  const { origin } = new URL(server.url);
  const used = await page.evaluate(async () => (await navigator.storage.estimate()).usage);
  const quota = (quotaSize) =>
    devtools.send('Storage.overrideQuotaForOrigin', { origin, quotaSize });
  await quota(used + first.size / 2);
  await offered(page, first.recipe).getByRole('button').first().click();
  await page.getByText('storage of this browser is full').waitFor();
  await quota(undefined);
  await install(page, first.recipe);
  assert.deepEqual(await selfTestTokens(page), expectedTokens(small, first.recipe));
});

test('an engine that was tampered with is not started', async (t) => {
  const { page, server } = await open(t, { pieces: true });
  server.faults.damage = (path) => path.endsWith('.z');
  await offered(page, first.recipe).getByRole('button').first().click();
  await page.getByText('could not be started').waitFor();
});

/** A key that signs bundles, by Node's own Ed25519. */
function newSigner() {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  return (text) => {
    const head = Buffer.from('pocketgpt-signature 2 bundle\n');
    return JSON.stringify({
      format: 'pocketgpt-signature',
      version: 2,
      algorithm: 'Ed25519',
      public_key: publicKey.export({ format: 'der', type: 'spki' }).subarray(-32).toString('hex'),
      signature: sign(null, Buffer.concat([head, Buffer.from(text)]), privateKey).toString('hex'),
      statements: [],
    });
  };
}

/** Serves `served.text` as `bundle.json`, and `served.signature`, null for none, as `bundle.sig`. */
const servingSigned =
  (served) =>
  ({ server }) => {
    server.faults.status = (path) =>
      path === '/bundle.sig' && served.signature === null ? 404 : null;
    server.faults.replace = (path) =>
      path === '/bundle.sig' ? served.signature : path === '/bundle.json' ? served.text : null;
  };

test('a signature is checked, and its key is the only one from then on', async (t) => {
  const text = JSON.stringify({ ...small, release: 1 });
  const keys = [newSigner(), newSigner()];
  const served = { text, signature: keys[0](text) };
  const { page } = await open(t, { pieces: true, before: servingSigned(served) });
  await page.getByText(/^Signed, key .* release 1$/).waitFor();
  served.signature = keys[1](text);
  await page.reload();
  await page.getByText('not signed with the key that was seen here first').waitFor();
  assert.equal(await offered(page, first.recipe).count(), 0);
  served.signature = keys[0](`${text} `);
  await page.reload();
  await page.getByText('does not belong to this bundle').waitFor();
  // The key of what did not verify was not taken for the new one.
  served.signature = keys[1](text);
  await page.reload();
  await page.getByRole('button', { name: 'Trust the new key' }).click();
  await offered(page, first.recipe).waitFor();
});

test('a bundle that lost its signature is refused or taken by hand', async (t) => {
  const text = JSON.stringify(small);
  const served = { text, signature: newSigner()(text) };
  const { page } = await open(t, { pieces: true, before: servingSigned(served) });
  await page.getByText(/^Signed, key .* no release stated/).waitFor();
  served.signature = null;
  await page.reload();
  await page.getByText('is not signed, and an earlier one from here was').waitFor();
  assert.equal(await offered(page, first.recipe).count(), 0);
  await page.getByRole('button', { name: 'Refuse it' }).click();
  await page.getByText('You refused bundles without a signature from here').waitFor();
  await page.reload();
  await page.getByRole('button', { name: 'Decide again' }).click();
  await page.getByRole('button', { name: 'Take it without a signature' }).click();
  await page.getByText('Not signed: anybody may have made it').waitFor();
  await offered(page, first.recipe).waitFor();
});

test('a release below the one installed is refused, unless the user wants it', async (t) => {
  const key = newSigner();
  const served = { text: '', signature: '' };
  const serve = (release) => {
    served.text = JSON.stringify({ ...small, release });
    served.signature = key(served.text);
  };
  serve(2);
  const { page } = await open(t, { pieces: true, before: servingSigned(served) });
  await install(page, first.recipe);
  serve(1);
  await page.reload();
  await visit(page, 'models');
  await page.getByText('This bundle is older than release 2').waitFor();
  assert.equal(await offered(page, TWIN).count(), 0);
  await page.getByRole('button', { name: 'Take it all the same' }).click();
  await offered(page, TWIN).waitFor();
});

test('a stored piece that was changed is fetched again before the model is loaded', async (t) => {
  const { page, server } = await open(t, { pieces: true });
  await install(page, first.recipe);
  const [file] = await storedFragments(page);
  const spoil = () =>
    page.evaluate(async (name) => {
      const root = await navigator.storage.getDirectory();
      const handle = await (await root.getDirectoryHandle('fragments')).getFileHandle(name);
      const bytes = new Uint8Array(await (await handle.getFile()).arrayBuffer());
      bytes[bytes.length - 1] ^= 1;
      const out = await handle.createWritable();
      await out.write(bytes);
      await out.close();
    }, file);
  await spoil();
  server.requests.length = 0;
  await page.reload();
  await ready(page);
  const asked = fragments(server).map(({ path }) => path.split('/').pop());
  assert.deepEqual(asked, [file]);
  await spoil();
  server.faults.status = (path) => (path.endsWith(file) ? 404 : null);
  await page.reload();
  await page.getByText('did not come again from where it was installed').waitFor();
  await page.getByText('Details').click();
  await page.getByText(file).waitFor();
});

test('a manifest that was replaced is refused', async (t) => {
  const { page, server } = await open(t, { pieces: true });
  await offered(page, first.recipe).waitFor();
  const path = `/${first.manifest}`;
  const text = await (await fetch(new URL(`..${path}`, server.url))).text();
  server.faults.replace = (asked) => (asked === path ? `${text} ` : null);
  await offered(page, first.recipe).getByRole('button').first().click();
  await page.getByText('The download failed').waitFor();
  assert.equal(fragments(server).length, 0);
});

test('a host without the headers for threads gets them from the service worker', async (t) => {
  const { page } = await open(t, { pieces: true, isolate: false });
  await page.waitForFunction(() => globalThis.crossOriginIsolated);
  await install(page, first.recipe);
  assert.deepEqual(await selfTestTokens(page), expectedTokens(small, first.recipe));
});

test('a file that the host does not deliver leaves a page that works and says so', async (t) => {
  const { page } = await open(t, {
    pieces: true,
    isolate: false,
    before: ({ server }) => {
      // Nothing but the service worker asks for it.
      server.faults.status = (path) => (path.endsWith('/icon-512.png') ? 503 : null);
    },
  });
  await page.getByText('This page could not be kept on this device').waitFor();
  await install(page, first.recipe);
  assert.deepEqual(await selfTestTokens(page), expectedTokens(small, first.recipe));
});

test('a file of the app that the host changed is not kept', async (t) => {
  const { page } = await open(t, {
    pieces: true,
    isolate: false,
    before: ({ server }) => {
      // Nothing but the service worker asks for it.
      server.faults.damage = (path) => path.endsWith('/icon-512.png');
    },
  });
  await page.getByText('This page could not be kept on this device').waitFor();
});

test('a browser without JSPI gets the compat engine, with the same answer', async (t) => {
  const { page, server, errors } = await open(t, {
    pieces: true,
    before: ({ page }) => page.addInitScript(() => delete WebAssembly.Suspending),
  });
  await install(page, first.recipe);
  assert.deepEqual(await selfTestTokens(page), expectedTokens(small, first.recipe));
  const engines = server.requests.map(({ path }) => path).filter((path) => path.endsWith('.z'));
  assert.deepEqual(engines.map((path) => path.replace(/.*\/|-.*/g, '')).sort(), [
    'compatScript',
    'compatWasm',
  ]);
  assert.deepEqual(errors, []);
});
