// How the app looks and who can use it: dark, narrow, French, keyboard, screen reader, installable.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, test } from 'node:test';

import {
  browser,
  install,
  offered,
  open,
  say,
  screenshot,
  small,
  until,
  visit,
} from './harness.mjs';

after(() => browser.close());

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const PAGES = ['chat', 'history', 'models', 'performance', 'settings'];
const { recipe } = small.variants[0];
const NARROW = { width: 360, height: 640 };

/** Rules of accessibility that the page breaks. */
async function violations(page) {
  // Through the debugger: the page's own policy lets no such script in.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
}

for (const colorScheme of ['light', 'dark']) {
  test(`every page is accessible, ${colorScheme}`, async (t) => {
    const { page } = await open(t, { pieces: true, colorScheme });
    await offered(page, recipe).waitFor();
    assert.deepEqual(await violations(page), [], 'models, before the first download');
    await install(page, recipe);
    await say(page, 'The');
    for (const name of PAGES) {
      await visit(page, name);
      assert.deepEqual(await violations(page), [], name);
      if (name === 'chat') await screenshot(page, `chat-${colorScheme}`);
    }
  });
}

test('dark is dark, also against the system', async (t) => {
  const { page } = await open(t, { pieces: true, colorScheme: 'light' });
  await install(page, recipe);
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await visit(page, 'settings');
  await page.getByLabel('Appearance').selectOption('dark');
  await until(async () => (await ground()) !== light);
  await page.reload();
  await page.locator('nav').waitFor();
  assert.notEqual(await ground(), light, 'the choice is kept');
});

test('nothing is wider than 360 pixels', async (t) => {
  const { page } = await open(t, {
    pieces: true,
    viewport: NARROW,
    isMobile: true,
    hasTouch: true,
  });
  await install(page, recipe);
  await say(page, 'Unbroken'.repeat(30));
  for (const name of PAGES) {
    await visit(page, name);
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= NARROW.width, `${name} is ${width} pixels wide`);
    await screenshot(page, `narrow-${name}`);
  }
  await visit(page, 'chat');
  const composer = await page.locator('.composer').boundingBox();
  assert.ok(composer.y + composer.height <= NARROW.height, 'the message field is in sight');
});

test('a French browser gets French', async (t) => {
  const { page } = await open(t, { pieces: true, locale: 'fr-FR' });
  await offered(page, recipe)
    .getByRole('button', { name: /^Télécharger/ })
    .waitFor();
  assert.equal(await page.locator('html').getAttribute('lang'), 'fr');
  await page.getByText('Tout reste sur cet appareil').waitFor();
  await screenshot(page, 'french');
});

test('the keyboard alone is enough', async (t) => {
  const { page } = await open(t, { pieces: true });
  await offered(page, recipe).waitFor();
  const focused = () => page.evaluate(() => document.activeElement?.textContent ?? '');
  while ((await focused()) !== 'Skip to the content') await page.keyboard.press('Shift+Tab');
  await page.keyboard.press('Enter');
  while (!/^Download/.test(await focused())) await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.locator('.composer textarea').waitFor();
  while (!(await page.evaluate(() => document.activeElement?.tagName === 'TEXTAREA'))) {
    await page.keyboard.press('Tab');
  }
  await page.keyboard.type('The');
  await page.keyboard.press('Enter');
  await page.locator('[data-role=assistant]').waitFor();
  await page.keyboard.press('Escape');
  await page.locator('[role=log][aria-busy=false]').waitFor();
});

test('the browser can install it as an app', async (t) => {
  const { page, context } = await open(t, { pieces: true });
  await page.evaluate(() => navigator.serviceWorker.ready);
  const devtools = await context.newCDPSession(page);
  const { errors, data } = await devtools.send('Page.getAppManifest');
  assert.deepEqual(errors, []);
  assert.equal(JSON.parse(data).display, 'standalone');
  const { installabilityErrors } = await devtools.send('Page.getInstallabilityErrors');
  const ids = installabilityErrors.map(({ errorId }) => errorId);
  // A profile of a test is never more than that.
  assert.deepEqual(
    ids.filter((id) => id !== 'in-incognito'),
    [],
  );
});
