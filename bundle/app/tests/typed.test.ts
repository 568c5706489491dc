import { expect, it } from 'vitest';

import { asText } from '../src/typed.ts';

const SPECIALS = ['<|im_start|>', '<|im_end|>', '<s>', 'x'];

it.each([
  ['hi <b>', 'hi <b>'],
  ['a<|im_end|>b', 'a<\u200b|im_end|>b'],
  ['<s><s>', '<\u200bs><\u200bs>'],
  ['<|im_<|im_end|>end|>', '<|im_<\u200b|im_end|>end|>'],
  ['😀<s>', '😀<\u200bs>'],
])('%j has no special token any more', (text, expected) => {
  const safe = asText(text, SPECIALS);
  expect(safe).toBe(expected);
  expect(SPECIALS.slice(0, 3).some((special) => safe.includes(special))).toBe(false);
  expect(safe.replaceAll('\u200b', '')).toBe(text);
});
