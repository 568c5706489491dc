// Coming back, several tabs, and where an answer ends.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import {
  answers,
  browser,
  chooseGreedy,
  install,
  open,
  questions,
  ready,
  say,
  settled,
  small,
  until,
  visit,
} from './harness.mjs';
import { CHAT } from './recut.mjs';

after(() => browser.close());

const field = (page) => page.locator('.composer textarea');

/** A page on which a chat model is ready. */
async function chatting(t, options) {
  const opened = await open(t, { pieces: true, ...options });
  await install(opened.page, CHAT);
  return opened;
}

test('who comes back finds the last conversation, at its end', async (t) => {
  const { page, server } = await chatting(t, {
    viewport: { width: 360, height: 480 },
  });
  await chooseGreedy(page, 4);
  await say(page, 'Hello');
  await say(page, 'And then?');
  await say(page, 'And then?');
  await page.goto('about:blank');
  await page.goto(server.url);
  await ready(page);
  assert.equal(await answers(page).count(), 3);
  const log = page.getByRole('log');
  assert.ok(await log.evaluate((log) => log.scrollHeight > log.clientHeight));
  await until(() => log.evaluate((log) => log.scrollHeight - log.scrollTop - log.clientHeight < 2));
});

test('an answer that reached its greatest length says so, and goes on', async (t) => {
  const { page } = await chatting(t);
  await chooseGreedy(page, 3);
  const first = await say(page, 'Hello');
  await page.getByText('reached its greatest length').waitFor();
  await page.getByRole('button', { name: 'Continue' }).click();
  await until(async () => (await answers(page).textContent()).length > first.length);
  await settled(page);
  assert.equal(await answers(page).count(), 1);
  assert.ok((await answers(page).textContent()).startsWith(first));
});

test('a message longer than the context is refused, and the model stays', async (t) => {
  const { page } = await chatting(t);
  await chooseGreedy(page, 3);
  await field(page).fill('The clock struck. '.repeat(small.context_length));
  await page.keyboard.press('Enter');
  await page.getByText('longer than what the model can see at once').waitFor();
  await settled(page);
  // The conversation goes on, without what was refused.
  assert.notEqual(await say(page, 'Hello'), '');
  await page.getByText('its oldest part was left out').waitFor();
});

test('what is sent while another tab answers is not lost', async (t) => {
  const { page, context, server } = await chatting(t);
  await chooseGreedy(page, 4);
  await say(page, 'One');
  const other = await context.newPage();
  await other.goto(server.url);
  // The other tab holds the conversation as an answer there does.
  await other.evaluate(async () => {
    const { held } = await navigator.locks.query();
    if (held.length > 0) throw new Error('a lock is left from the first answer');
    const database = await new Promise((resolve) => {
      const request = indexedDB.open('pocketgpt');
      request.onsuccess = () => resolve(request.result);
    });
    const all = database.transaction('conversations').objectStore('conversations').getAll();
    await new Promise((resolve) => (all.onsuccess = resolve));
    const name = `conversation-${all.result[0].id}`;
    await new Promise((resolve) => {
      navigator.locks.request(name, () => (resolve(), new Promise(() => {})));
    });
  });
  await field(page).fill('Two');
  await page.keyboard.press('Enter');
  await page.getByText('being answered in another tab').waitFor();
  assert.equal(await field(page).inputValue(), 'Two');
  assert.deepEqual(await questions(page).allTextContents(), ['One']);
});

test('what is typed stays when another page is looked at, and blanks are not sent', async (t) => {
  const { page } = await chatting(t);
  await field(page).fill('  \n ');
  assert.ok(await page.getByRole('button', { name: 'Send' }).isDisabled());
  await page.keyboard.press('Enter');
  await field(page).fill('half a');
  await visit(page, 'settings');
  await visit(page, 'chat');
  assert.equal(await field(page).inputValue(), 'half a');
  assert.equal(await questions(page).count(), 0);
});

test('Enter while a chat model loads sends a message, and nothing without one', async (t) => {
  const { page, server } = await chatting(t);
  await chooseGreedy(page, 4);
  const first = await say(page, 'Hello');
  await page.goto('about:blank');
  await page.goto(server.url);
  await field(page).focus();
  await page.keyboard.press('Enter');
  await ready(page);
  await settled(page);
  assert.deepEqual(await answers(page).allTextContents(), [first]);
});

test('two tabs show the same conversation and lose none of its messages', async (t) => {
  const { page, context, server } = await chatting(t);
  await chooseGreedy(page, 4);
  await say(page, 'One');
  const other = await context.newPage();
  other.setDefaultTimeout(90_000);
  await other.goto(server.url);
  await ready(other);
  assert.deepEqual(await questions(other).allTextContents(), ['One']);
  await say(other, 'Two');
  await until(async () => (await questions(page).count()) === 2);
  await say(page, 'Three');
  await until(async () => (await questions(other).count()) === 3);
  for (const tab of [page, other]) {
    assert.deepEqual(await questions(tab).allTextContents(), ['One', 'Two', 'Three']);
    assert.equal(await answers(tab).count(), 3);
  }
});

test('instructions are part of the prompt, and of the next conversation', async (t) => {
  const { page } = await chatting(t);
  await chooseGreedy(page, 1);
  const contextUsed = async () => {
    await visit(page, 'performance');
    const facts = await page.locator('.facts').textContent();
    await visit(page, 'chat');
    return Number(/(\d+) of [\d,]+ tokens/.exec(facts)[1]);
  };
  await say(page, 'Hello');
  const without = await contextUsed();
  await page.getByRole('button', { name: 'New' }).click();
  await page.getByText('Instructions for the model').click();
  const instructions = page.getByRole('textbox', {
    name: 'Instructions for the model',
  });
  await instructions.fill('Say it in one word.');
  await instructions.press('Tab');
  await say(page, 'Hello');
  assert.ok((await contextUsed()) > without);
  await page.getByRole('button', { name: 'New' }).click();
  assert.equal(await instructions.inputValue(), 'Say it in one word.');
});

test('an answer is shown as Markdown, and HTML in it as text', async (t) => {
  const { page, errors } = await chatting(t);
  const text = [
    '# Title',
    'Some **bold** and `code`, <b onclick="x()">html</b>, ![i](https://example.org/i.png)',
    '',
    '- one',
    '- [two](javascript:alert(1)) and [three](https://example.org/)',
    '',
    '| a | b |',
    '|---|---|',
    '| 1 | 2 |',
    '',
    '```js',
    '<script>alert(1)</script>',
    '```',
    '<img src=x onerror=alert(1)>',
  ].join('\n');
  const now = Date.now();
  const messages = [
    { role: 'user', text: '**mine**' },
    { role: 'assistant', text },
  ];
  const conversation = {
    id: 'a',
    title: 'md',
    created: now,
    updated: now,
    messages,
  };
  const file = {
    format: 'pocketgpt-conversations',
    version: 1,
    conversations: [conversation],
  };
  await visit(page, 'history');
  await page.locator('input[type=file]').setInputFiles({
    name: 'x.json',
    mimeType: 'application/json',
    buffer: Buffer.from(JSON.stringify(file)),
  });
  await page.getByText('1 conversation was imported').waitFor();
  await page.getByRole('button', { name: 'md' }).first().click();
  const answer = page.locator('[data-role=assistant] .markdown');
  await answer.waitFor();
  const count = (selector) => answer.locator(selector).count();
  assert.deepEqual(
    await Promise.all(['strong', 'li', 'td', 'pre code', 'a', 'img', 'script', 'b'].map(count)),
    [1, 2, 2, 1, 1, 0, 0, 0],
  );
  assert.equal(await answer.locator('a').getAttribute('href'), 'https://example.org/');
  const shown = await answer.textContent();
  for (const part of ['<b onclick', '<img src=x', 'javascript:alert(1)', '<script>alert(1)']) {
    assert.ok(shown.includes(part), part);
  }
  assert.deepEqual(await questions(page).allTextContents(), ['**mine**']);
  assert.deepEqual(errors, []);
});
