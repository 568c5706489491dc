import { describe, expect, it } from 'vitest';

import { isSame } from '../src/self_test.ts';

describe('the self-test', () => {
  const found = { promptTokens: 3, tokens: [1, null, 2, 3], text: 'a😀b' };
  const expected = [1, 9, 2, 3];

  it('passes where ids, text and prompt are the same', () => {
    expect(isSame([1, 2], null, 3, { ...found, tokens: [1, 2] })).toBe(true);
    // The first token of a character in two has no id, but its bytes.
    expect(isSame(expected, 'a😀b', 3, found)).toBe(true);
    expect(isSame([1], '\ufffd', 3, { ...found, tokens: [1], text: '\ufffd\ufffd' })).toBe(true);
  });

  it.each([
    ['another id', [7, 9, 2, 3], 'a😀b', 3],
    ['a token more', [1, 9, 2], 'a😀b', 3],
    ['a token less', [1, 9, 2, 3, 4], 'a😀b', 3],
    ['another character', expected, 'a😁b', 3],
    ['a character that nobody can compare', expected, null, 3],
    ['a prompt of more tokens', expected, 'a😀b', 4],
  ])('fails with %s', (_, ids, text, prompt) => {
    expect(isSame(ids, text, prompt, found)).toBe(false);
  });

  const first = [
    { id: 5, logprob: Math.log(0.1419) },
    { id: 7, logprob: Math.log(0.1405) },
  ];
  const tied = { promptTokens: 3, tokens: [5, 1, 1], alternatives: [first, null, null], text: '' };

  it('passes where another of two nearly equally likely tokens came', () => {
    expect(isSame([7, 2, 2], 'other', 3, tied)).toBe(true);
  });

  it('fails where the expected token was less likely, or its chance is not told', () => {
    expect(isSame([8, 2, 2], 'other', 3, tied)).toBe(false);
    expect(isSame([7, 2, 2], 'other', 4, tied)).toBe(false);
    const apart = [{ ...first[0]!, logprob: Math.log(0.2) }, first[1]!];
    expect(isSame([7, 2, 2], 'other', 3, { ...tied, alternatives: [apart] })).toBe(false);
    const { promptTokens, tokens, text } = tied;
    expect(isSame([7, 2, 2], 'other', 3, { promptTokens, tokens, text })).toBe(false);
  });
});
