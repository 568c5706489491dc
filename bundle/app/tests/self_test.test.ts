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
});
