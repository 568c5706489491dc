// Working with the model: answers, conversations, memory, figures.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';

import {
  answers,
  browser,
  chooseGreedy,
  install,
  installed,
  open,
  questions,
  ready,
  say,
  screenshot,
  settled,
  small,
  until,
  visit,
} from './harness.mjs';
import { CHAT } from './recut.mjs';

after(() => browser.close());

const { recipe } = small.variants[0];

/** A page on which the model is ready. */
async function chatting(t, options) {
  const opened = await open(t, { pieces: true, ...options });
  await install(opened.page, recipe);
  return opened;
}

test('an answer comes piece by piece, stops, is made again, and goes on', async (t) => {
  const { page } = await chatting(t);
  await chooseGreedy(page, 12);
  const answer = await say(page, 'The');
  assert.notEqual(answer, '');
  await page.getByText(/tokens\/s/).waitFor();
  await page.getByRole('button', { name: 'Again' }).click();
  await settled(page);
  assert.equal(await answers(page).textContent(), answer, 'greedy is the same every time');
  await page.getByRole('button', { name: 'Go on' }).click();
  await until(async () => (await answers(page).textContent()).length > answer.length);
  await settled(page);
  assert.ok((await answers(page).textContent()).startsWith(answer));
  await screenshot(page, 'chat');
});

test('a model with a chat template gets messages and answers them', async (t) => {
  const { page } = await open(t, { pieces: true });
  await install(page, CHAT);
  await page.getByText('Ask something').waitFor();
  await chooseGreedy(page, 6);
  const first = await say(page, 'Hello');
  await say(page, 'And then?');
  assert.equal(await answers(page).count(), 2);
  assert.equal(await answers(page).first().textContent(), first);
  await page.getByRole('button', { name: 'Send' }).waitFor();
  await screenshot(page, 'chat-template');
});

test('special tokens that are typed stay text, unless the user lets them count', async (t) => {
  assert.ok(small.special_tokens.includes('<|endoftext|>'));
  const { page } = await open(t, { pieces: true });
  await install(page, CHAT);
  await chooseGreedy(page, 1);
  const contextUsed = async () => {
    await say(page, 'a<|endoftext|>b');
    await visit(page, 'performance');
    const facts = await page.locator('.facts').textContent();
    return Number(/(\d+) of [\d,]+ tokens/.exec(facts)[1]);
  };
  const asText = await contextUsed();
  await visit(page, 'settings');
  await page.getByLabel(/^Special tokens/).selectOption('true');
  await visit(page, 'chat');
  await page.getByRole('button', { name: 'New' }).click();
  assert.ok((await contextUsed()) < asText);
});

test('a long answer stops when the user says so', async (t) => {
  const { page } = await chatting(t);
  await page.locator('.composer textarea').fill('The');
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Stop' }).click();
  await settled(page);
  await page.getByRole('button', { name: 'Go on' }).waitFor();
  // The engine is free again at once.
  assert.notEqual(await say(page, ' and'), '');
});

test('a message that is edited is answered anew, and what came after it is gone', async (t) => {
  const { page } = await chatting(t);
  await chooseGreedy(page, 4);
  await say(page, 'The');
  await say(page, ' clock');
  assert.equal(await questions(page).count(), 2);
  await page.locator('[data-role=user]').first().getByRole('button', { name: 'Edit' }).click();
  await page.getByRole('textbox', { name: 'Edit' }).fill('A');
  await page.getByRole('button', { name: 'Send again' }).click();
  await until(async () => (await answers(page).count()) === 1);
  await settled(page);
  assert.deepEqual(await questions(page).allTextContents(), ['A']);
});

test('a text longer than the context loses its oldest part, and the page says so', async (t) => {
  const { page } = await chatting(t);
  await chooseGreedy(page, 4);
  assert.notEqual(await say(page, 'The clock struck. '.repeat(small.context_length)), '');
  await page.getByText('its oldest part was left out').waitFor();
});

test('conversations are kept, found, renamed, exported, imported and deleted', async (t) => {
  const { page } = await chatting(t);
  await chooseGreedy(page, 4);
  await say(page, 'The clock');
  await page.getByRole('button', { name: 'New' }).click();
  await say(page, 'A harbor');
  await page.reload();
  await ready(page);
  await visit(page, 'history');
  const titles = page.locator('.conversations .open');
  assert.deepEqual(await titles.allTextContents(), ['A harbor', 'The clock']);

  await page.getByRole('button', { name: 'Rename: The clock' }).click();
  await page.getByLabel('Title').fill('Été');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByLabel('Search').fill('ete');
  await until(async () => (await titles.allTextContents()).join() === 'Été');
  await screenshot(page, 'conversations');
  await page.getByLabel('Search').fill('');

  const download = page.waitForEvent('download');
  await page.getByRole('button', { name: 'Export all' }).click();
  const exported = JSON.parse(readFileSync(await (await download).path(), 'utf8'));
  assert.deepEqual(exported.conversations.map(({ title }) => title).sort(), ['A harbor', 'Été']);

  for (const title of ['Été', 'A harbor']) {
    await page.getByRole('button', { name: `Delete: ${title}` }).click();
    await page.getByRole('button', { name: `Delete: ${title}` }).waitFor({ state: 'detached' });
  }
  const give = (text) =>
    page
      .locator('input[type=file]')
      .setInputFiles({ name: 'a.json', mimeType: 'application/json', buffer: Buffer.from(text) });
  await give('{"format":"something else"}');
  await page.getByText('This file was not imported').waitFor();
  await give(JSON.stringify(exported));
  await page.getByText('2 conversations were imported').waitFor();
  assert.equal(await titles.count(), 2);
});

test('a conversation that is deleted while it is answered stays deleted', async (t) => {
  const { page } = await chatting(t);
  await page.locator('.composer textarea').fill('The');
  await page.keyboard.press('Enter');
  await until(async () => (await answers(page).count()) === 1);
  await visit(page, 'history');
  await page.getByRole('button', { name: 'Delete: The' }).click();
  await page.getByRole('button', { name: 'Delete: The' }).waitFor({ state: 'detached' });
  await visit(page, 'chat');
  await page.reload();
  await ready(page);
  await visit(page, 'history');
  assert.equal(await page.locator('.conversations .open').count(), 0);
});

/** From now on a piece that is gone from the device does not come again. */
function withholdFragments(server) {
  server.faults.status = (path) => (path.endsWith('.dat') ? 404 : null);
}

test('an answer that cannot be made again is not lost', async (t) => {
  const { page, server } = await chatting(t);
  await chooseGreedy(page, 4);
  const answer = await say(page, 'The');
  withholdFragments(server);
  await page.evaluate(async () => {
    document.dispatchEvent(new Event('freeze'));
    const root = await navigator.storage.getDirectory();
    const fragments = await root.getDirectoryHandle('fragments');
    for await (const name of fragments.keys()) return fragments.removeEntry(name);
  });
  await page.getByText('was unloaded').waitFor();
  await page.getByRole('button', { name: 'Again' }).click();
  await page.getByText('A part of this model is damaged or gone').waitFor();
  await until(async () => (await answers(page).count()) === 1);
  assert.equal(await answers(page).textContent(), answer);
});

test('what looks like HTML is shown as it is', async (t) => {
  const { page, errors } = await chatting(t);
  const text = '<img src=x onerror="document.title=1"><script>document.title=1</script>';
  const message = (role) => ({ role, text });
  const conversation = {
    id: 'hostile',
    title: text,
    created: 1,
    updated: 1,
    messages: [message('user'), message('assistant')],
  };
  const file = { format: 'pocketgpt-conversations', version: 1, conversations: [conversation] };
  await visit(page, 'history');
  await page.locator('input[type=file]').setInputFiles({
    name: 'a.json',
    mimeType: 'application/json',
    buffer: Buffer.from(JSON.stringify(file)),
  });
  await page.getByRole('button', { name: text, exact: true }).click();
  assert.equal(await answers(page).textContent(), text);
  assert.equal(await page.locator('main img, main script').count(), 0);
  assert.notEqual(await page.title(), '1');
  assert.deepEqual(errors, []);
});

test('nothing runs that the page did not bring along', async (t) => {
  const { page, errors } = await chatting(t);
  const refused = await page.evaluate(async () => {
    const script = document.createElement('script');
    script.textContent = 'globalThis.ran = true';
    document.head.append(script);
    const elsewhere = await fetch('https://example.com/').then(
      () => false,
      () => true,
    );
    return !globalThis.ran && elsewhere;
  });
  assert.ok(refused);
  assert.ok(errors.length > 0, 'the browser says what it refused');
});

test('an idle model gives its memory back, and the next message loads it again', async (t) => {
  const { page } = await chatting(t, { before: ({ page }) => page.clock.install() });
  await chooseGreedy(page, 4);
  const answer = await say(page, 'The');
  await page.clock.fastForward('10:01');
  await page.getByText('was unloaded').waitFor();
  await page.getByRole('button', { name: 'Again' }).click();
  await page.getByText('was unloaded').waitFor({ state: 'detached' });
  await settled(page);
  assert.equal(await answers(page).textContent(), answer);
});

test('a frozen page gives its memory back', async (t) => {
  const { page } = await chatting(t);
  await page.evaluate(() => document.dispatchEvent(new Event('freeze')));
  await page.getByText('was unloaded').waitFor();
});

test('a model of which a part is gone says what to do', async (t) => {
  const { page, server } = await chatting(t);
  withholdFragments(server);
  await page.evaluate(async () => {
    const root = await navigator.storage.getDirectory();
    const fragments = await root.getDirectoryHandle('fragments');
    for await (const name of fragments.keys()) return fragments.removeEntry(name);
  });
  await page.reload();
  await page.getByText('A part of this model is damaged or gone').waitFor();
  await visit(page, 'models');
  await installed(page, recipe).getByRole('button', { name: 'Remove' }).click();
  await page.getByText('No model is on this device yet').waitFor();
  server.faults.status = () => null;
  await install(page, recipe);
});

test('the performance page shows figures, and a benchmark to copy', async (t) => {
  const { page } = await chatting(t, { permissions: ['clipboard-read', 'clipboard-write'] });
  await chooseGreedy(page, 8);
  await say(page, 'The');
  await visit(page, 'performance');
  const facts = await page.locator('.facts').textContent();
  assert.match(facts, /Tokens\/s, last answer[\d.,]+/);
  assert.match(facts, /Time to the first token[\d.,]+/);
  assert.match(facts, /Load time[\d.,]+/);
  assert.match(facts, /Memory of the weights[\d.,]+/);
  await page.getByRole('button', { name: 'Run the benchmark' }).click();
  await page.getByRole('button', { name: 'Copy' }).click();
  const result = JSON.parse(await page.evaluate(() => navigator.clipboard.readText()));
  assert.equal(result.format, 'pocketgpt-benchmark');
  assert.equal(result.recipe, recipe);
  assert.equal(result.answer_tokens_per_s.length, 3);
  assert.ok(result.answer_tokens_per_s.every((speed) => speed > 0));
  await screenshot(page, 'performance');
});

test('threads are the ones that were chosen', async (t) => {
  const { page } = await chatting(t);
  await visit(page, 'settings');
  await page.getByLabel(/^Threads/).selectOption('2');
  await visit(page, 'performance');
  await until(async () => /Threads2/.test(await page.locator('.facts').textContent()));
});
