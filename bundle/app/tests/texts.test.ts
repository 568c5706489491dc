import { expect, it } from 'vitest';

import { Format } from '../src/format.ts';
import { chooseLanguage } from '../src/i18n.ts';
import { loadSettings } from '../src/settings.ts';

it.each([
  [['fr-CA', 'en'], 'fr'],
  [['en-GB', 'fr'], 'en'],
  [['de', 'fr'], 'fr'],
  [['de'], 'en'],
  [[], 'en'],
])('of %j the language is %s', (preferred, code) => {
  expect(chooseLanguage(preferred).code).toBe(code);
});

it('no sentence is left in English', () => {
  const en = chooseLanguage(['en']).texts;
  const fr = chooseLanguage(['fr']).texts;
  // The same in both languages.
  const shared = new Set(['notYet', 'messageLabel']);
  for (const key of Object.keys(en) as (keyof typeof en)[]) {
    if (typeof en[key] === 'string' && !shared.has(key)) {
      expect(fr[key], key).not.toBe(en[key]);
    }
  }
});

it('figures are written as people read them', () => {
  const format = new Format('en');
  expect(format.bytes(0)).toBe('0 byte');
  expect(format.bytes(5_313_952)).toBe('5.3 MB');
  expect(format.bytes(163_000_000)).toBe('163 MB');
  expect(format.bytes(999_999)).toBe('1 MB');
  expect(format.duration(12.2)).toBe('13 sec');
  expect(format.duration(600)).toBe('10 min');
  expect(format.milliseconds(1234)).toBe('1.23 sec');
  expect(new Format('fr').percent(0.985)).toMatch(/^98,5\s%$/);
});

it('settings that make no sense are forgotten', () => {
  const values = new Map<string, string>();
  const storage = {
    getItem: (key: string) => values.get(key) ?? null,
    setItem: (key: string, value: string) => values.set(key, value),
  } as unknown as Storage;
  const read = () => loadSettings(storage).value;
  expect(read()).toMatchObject({ theme: 'system', threads: null, idle: 'auto', generation: {} });
  values.set('settings', '{"theme":"red","threads":-1,"idle":7,"generation":{"topP":5,"topK":3}}');
  expect(read()).toMatchObject({ theme: 'system', threads: null, idle: 'auto' });
  expect(read().generation).toEqual({ topK: 3 });
  values.set('settings', '{');
  expect(read().theme).toBe('system');
  loadSettings(storage).value = { ...read(), idle: null };
  expect(read().idle).toBeNull();
});
