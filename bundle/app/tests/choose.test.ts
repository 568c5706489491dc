import { describe, expect, it } from 'vitest';

import type { Variant } from '../src/bundle.ts';
import { chooseVariant, defaultThreads, fits, recipeBits } from '../src/choose.ts';
import type { Device } from '../src/choose.ts';

const MB = 1e6;

function variant(recipe: string, megabytes: number): Variant {
  const total = megabytes * MB;
  const memory = { context: 1024, weights: total, kvCache: 0, compute: 0, total };
  const rest = { top1Agreement: null, perplexity: null, expected: [1], expectedText: null };
  return { recipe, manifest: '', size: total, sha256: '', memory, ...rest };
}

const SIZES = [variant('Q4_K_M', 100), variant('Q8_0', 180), variant('F16', 330)];
const device = (memory: number | null, mobile = false): Device => ({
  memory,
  mobile,
  addressable: Infinity,
});

describe('the variant', () => {
  it.each([
    [1, 'Q4_K_M'],
    [4, 'Q4_K_M'],
    [6, 'Q8_0'],
    [8, 'Q8_0'],
    [16, 'F16'],
  ])('for %d GB is %s', (memory, recipe) => {
    expect(chooseVariant(SIZES, device(memory))?.recipe).toBe(recipe);
  });

  it('is a careful guess where the browser does not tell the memory', () => {
    expect(chooseVariant(SIZES, device(null, true))?.recipe).toBe('Q4_K_M');
    expect(chooseVariant(SIZES, device(null, false))?.recipe).toBe('Q8_0');
  });

  it('is a smaller one where the memory does not suffice', () => {
    const large = [variant('Q4_K_M', 3000), variant('Q8_0', 6000)];
    expect(chooseVariant(large, device(8))?.recipe).toBe('Q4_K_M');
    expect(chooseVariant(large, device(2))?.recipe).toBe('Q4_K_M');
    expect(fits(large[0]!, device(2))).toBe(false);
  });

  it('is the smallest where all have more bits than proposed', () => {
    expect(chooseVariant([variant('Q8_0', 100), variant('F16', 200)], device(4))?.recipe).toBe(
      'Q8_0',
    );
  });

  it('fits into what the engine can address', () => {
    expect(fits(variant('Q8_0', 5000), { ...device(32), addressable: 2 ** 32 })).toBe(false);
  });

  it('of a bundle without any is none', () => {
    expect(chooseVariant([], device(8))).toBeUndefined();
  });
});

it.each([
  ['Q4_K_M', 4],
  ['IQ4_NL', 4],
  ['Q8_0', 8],
  ['BF16', 16],
  ['F32', 32],
  ['unknown', 32],
])('%s has %d bits', (recipe, bits) => {
  expect(recipeBits(recipe)).toBe(bits);
});

it('threads are all of few cores and half of many', () => {
  expect([1, 2, 4, 8, 32].map((cores) => defaultThreads(cores, true))).toEqual([1, 2, 4, 4, 8]);
  expect(defaultThreads(8, false)).toBe(1);
});
