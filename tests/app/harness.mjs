// What every test of the app needs: a browser, a server, a fresh profile, and the app's own controls.

import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

import { recut } from './recut.mjs';
import { serve } from './server.mjs';

const needed = (name) => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run tests/app/run.sh BUNDLE_FOLDER`);
  return value;
};

const BUNDLE = needed('POCKETGPT_BUNDLE');
const APP = needed('POCKETGPT_APP');
const SCREENSHOTS = process.env.POCKETGPT_SCREENSHOTS;

/** `bundle.json` of the bundle under test. */
export const bundle = JSON.parse(readFileSync(join(BUNDLE, 'bundle.json'), 'utf8'));

const work = mkdtempSync(join(tmpdir(), 'pocketgpt-app-'));
process.on('exit', () => rmSync(work, { recursive: true, force: true }));
const pieces = join(work, 'pieces');
recut(BUNDLE, pieces);

/** The same in many small pieces, with a variant that shares nearly all of them. */
export const small = JSON.parse(readFileSync(join(pieces, 'bundle.json'), 'utf8'));

/** The browser; close it when the tests of a file are done. */
export const browser = await chromium.launch({
  executablePath: needed('POCKETGPT_CHROMIUM'),
  args: ['--no-sandbox'],
});

/**
 * Opens the app in a fresh profile, until the test `t` ends. `pieces` takes the bundle of small pieces; the rest goes to the
 * server and to the profile. `errors` has whatever the page complained of.
 */
export async function open(
  t,
  { pieces: small = false, isolate = true, threads = 1, before, ...profile } = {},
) {
  const server = await serve({ bundle: small ? pieces : BUNDLE, app: APP, isolate });
  const context = await browser.newContext({ locale: 'en-US', ...profile });
  t.after(async () => {
    await context.close();
    await server.stop().catch(() => {});
  });
  // Threads that wait for each other take very long on a busy machine.
  if (threads !== null) {
    await context.addInitScript(
      (value) => (localStorage['settings'] ??= value),
      `{"threads":${threads}}`,
    );
  }
  const page = await context.newPage();
  page.setDefaultTimeout(90_000);
  const errors = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('console', (message) => {
    const refused = /Content Security Policy|Refused to/.test(message.text());
    if (refused) errors.push(message.text());
  });
  /** Hosts that were asked; only the server's own may be. */
  const hosts = new Set();
  context.on('request', (request) => {
    const { protocol, host } = new URL(request.url());
    if (protocol !== 'blob:') hosts.add(host);
  });
  page.on('dialog', (dialog) => dialog.accept());
  await before?.({ page, context, server });
  await page.goto(server.url);
  return { server, context, page, errors, hosts };
}

/** The texts of the model's messages, and of the user's. */
export const answers = (page) => page.locator('[data-role=assistant] .text');
export const questions = (page) => page.locator('[data-role=user] .text');

/** The card of a variant that is not here yet. */
export const offered = (page, recipe) => page.locator(`[data-offered="${recipe}"]`);

/** The card of a model that is on this device. */
export const installed = (page, recipe) => page.locator(`[data-installed="${recipe}"]`);

/** Opens one of the app's pages through the navigation. */
export const visit = (page, name) => page.locator(`nav a[href="#${name}"]`).click();

/** Downloads a variant and waits until it is ready to chat. */
export async function install(page, recipe) {
  await offered(page, recipe).getByRole('button').first().click();
  await ready(page);
}

/** Waits until the chat is open and the model is loaded. */
export async function ready(page) {
  await page.locator('.composer').waitFor();
  await page.getByRole('status').waitFor({ state: 'detached' });
}

/** Sends `text` and waits for the whole answer, which it returns. */
export async function say(page, text) {
  const before = await page.locator('[data-role=assistant]').count();
  await page.locator('.composer textarea').fill(text);
  // On a keyboard of the screen Enter is a new line.
  const touch = await page.evaluate(() => matchMedia('(pointer: coarse)').matches);
  if (touch) await page.locator('.composer button[type=submit]').click();
  else await page.keyboard.press('Enter');
  const answer = page.locator('[data-role=assistant]').nth(before);
  await answer.waitFor();
  await settled(page);
  return answer.locator('.text').textContent();
}

/** Waits until nothing is generated any more. */
export const settled = (page) => page.locator('[role=log][aria-busy=false]').waitFor();

/** The tokens that the self-test found here. */
export async function selfTestTokens(page) {
  await visit(page, 'performance');
  const result = page.locator('[data-self-test]');
  if ((await result.count()) === 0) {
    await page.locator('.actions button').first().click();
  }
  await result.waitFor();
  return (await result.getAttribute('data-tokens')).split(' ').map(Number);
}

/** The tokens that a bundle expects of a variant. */
export const expectedTokens = (json, recipe) =>
  json.self_test.expected.find((answer) => answer.recipe === recipe).tokens;

/** Files in the app's own file system. */
export const storedFragments = (page) =>
  page.evaluate(async () => {
    const root = await navigator.storage.getDirectory();
    const names = [];
    for await (const name of (await root.getDirectoryHandle('fragments')).keys()) names.push(name);
    return names.sort();
  });

/** Waits until `holds` says so, at most as long as a page waits. */
export async function until(holds) {
  const end = Date.now() + 90_000;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`never came true: ${holds}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Every answer is the likeliest token, and `tokens` long. */
export async function chooseGreedy(page, tokens) {
  await visit(page, 'settings');
  await page.getByRole('button', { name: /^(Greedy|Glouton)/ }).click();
  const longest = page.getByRole('spinbutton').last();
  await longest.fill(String(tokens));
  await longest.press('Tab');
  await visit(page, 'chat');
}

/** Keeps a picture where the caller of the tests wants them. */
export async function screenshot(page, name) {
  if (!SCREENSHOTS) return;
  mkdirSync(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
}
