import { readFileSync } from 'node:fs';

import { describe, expect, it } from 'vitest';

import type { Variant } from '../src/bundle.ts';
import { chooseVariant, defaultThreads, fits, recipeBits } from '../src/choose.ts';
import type { Device } from '../src/choose.ts';

const MB = 1e6;

function variant(recipe: string, megabytes: number): Variant {
  return sized(recipe, megabytes * MB);
}

function sized(recipe: string, total: number): Variant {
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

interface Proposal {
  what: string;
  memory_gib: number;
  addressable?: number;
  variants: { recipe: string; total: number }[];
  proposed: string | null;
}

/** `bundle/tests/plan.rs` reads the same cases. */
const PROPOSALS: Proposal[] = JSON.parse(
  readFileSync(new URL('../../tests/golden/proposals.json', import.meta.url), 'utf8'),
);

describe('the variant', () => {
  it.each(PROPOSALS)('is what the plan proposes: $what', (proposal) => {
    const variants = proposal.variants.map(({ recipe, total }) => sized(recipe, total));
    const addressable = proposal.addressable ?? Infinity;
    const here = { ...device(proposal.memory_gib), addressable };
    const chosen = chooseVariant(variants, here)!;
    expect(fits(chosen, here)).toBe(proposal.proposed !== null);
    if (proposal.proposed === null) {
      const least = Math.min(...variants.map((one) => one.memory.total));
      expect(chosen.memory.total).toBe(least);
    } else {
      expect(chosen.recipe).toBe(proposal.proposed);
    }
  });

  it('is a careful guess where the browser does not tell the memory', () => {
    expect(chooseVariant(SIZES, device(null, true))?.recipe).toBe('Q4_K_M');
    expect(chooseVariant(SIZES, device(null, false))?.recipe).toBe('Q8_0');
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
