import 'fake-indexeddb/auto';
import { beforeEach, describe, expect, it } from 'vitest';

import { Refused } from '../src/check.ts';
import {
  Conversations,
  exportJson,
  importJson,
  newConversation,
  search,
  titleOf,
} from '../src/conversations.ts';
import type { Conversation } from '../src/conversations.ts';
import type { Json } from './samples.ts';

function conversation(title: string, ...texts: string[]): Conversation {
  const messages = texts.map((text, i) => ({ role: i % 2 ? 'assistant' : 'user', text }) as const);
  return { ...newConversation('', 1000), title, messages };
}

describe('an export', () => {
  it('is read again as it was', () => {
    const all = [conversation('one', 'Hello', '<b>world</b>\u0000'), conversation('', 'x')];
    expect(importJson(exportJson(all))).toEqual(all);
  });

  const hostile: [string, (json: Json) => void][] = [
    ['another format', (json) => (json.format = 'x')],
    ['a newer version', (json) => (json.version = 2)],
    ['no list', (json) => (json.conversations = {})],
    ['an id that is a path', (json) => (json.conversations[0].id = '../x')],
    ['an id twice', (json) => json.conversations.push(json.conversations[0])],
    ['another role', (json) => (json.conversations[0].messages[0].role = 'system')],
    ['a text that is no text', (json) => (json.conversations[0].messages[0].text = { a: 1 })],
    ['a text without end', (json) => (json.conversations[0].messages[0].text = 'a'.repeat(2e6))],
    ['instructions that are no text', (json) => (json.conversations[0].system = 7)],
    ['a title with control characters', (json) => (json.conversations[0].title = '\u0007')],
    ['a time that is none', (json) => (json.conversations[0].updated = 'now')],
    ['messages without end', (json) => (json.conversations[0].messages = Array(10_001).fill({}))],
  ];
  it.each(hostile)('with %s is refused', (_, spoil) => {
    const json = JSON.parse(exportJson([conversation('one', 'Hello')]));
    spoil(json);
    expect(() => importJson(JSON.stringify(json))).toThrow(Refused);
  });

  it('loses keys that nobody asked for', () => {
    const json = JSON.parse(exportJson([conversation('one', 'Hello')]));
    json.conversations[0].extra = 'x';
    expect(importJson(JSON.stringify(json))[0]).not.toHaveProperty('extra');
  });
});

describe('search', () => {
  const all = [
    conversation('Clocks', 'The clock struck thirteen'),
    conversation('Été', 'Il fait chaud'),
  ];
  it('looks at titles and texts, whatever case and accents', () => {
    expect(search(all, 'CLOCK thirteen')).toEqual([all[0]]);
    expect(search(all, 'ete')).toEqual([all[1]]);
    expect(search(all, '')).toEqual(all);
    expect(search(all, 'clock chaud')).toEqual([]);
  });
});

it('a title is the first words', () => {
  expect(titleOf('  Hello\n world ')).toBe('Hello world');
  expect(titleOf('a'.repeat(100))).toHaveLength(48);
});

describe('the table', () => {
  let table: Conversations;
  beforeEach(async () => {
    table = await Conversations.open(`test-${Math.random()}`);
  });

  it('keeps, replaces and removes', async () => {
    const old = conversation('old', 'a');
    const recent = { ...conversation('recent', 'b'), updated: 2000 };
    await table.save(old);
    await table.save(recent);
    expect((await table.all()).map(({ title }) => title)).toEqual(['recent', 'old']);
    await table.save({ ...old, title: 'renamed' });
    await table.remove(recent.id);
    expect((await table.all()).map(({ title }) => title)).toEqual(['renamed']);
  });

  it('imports what is newer than what is here', async () => {
    const here = { ...conversation('here', 'a'), updated: 2000 };
    await table.save(here);
    const older = { ...here, title: 'older', updated: 1500 };
    const other = conversation('other', 'b');
    expect(await table.import(exportJson([older, other]))).toBe(1);
    expect((await table.all()).map(({ title }) => title).sort()).toEqual(['here', 'other']);
    expect(await table.import(exportJson([{ ...here, title: 'newer', updated: 3000 }]))).toBe(1);
    expect((await table.all())[0]?.title).toBe('newer');
  });

  it('imports all or nothing', async () => {
    const json = JSON.parse(exportJson([conversation('good', 'a'), conversation('bad', 'b')]));
    json.conversations[1].messages[0].role = 'x';
    await expect(table.import(JSON.stringify(json))).rejects.toThrow(Refused);
    expect(await table.all()).toEqual([]);
  });
});
