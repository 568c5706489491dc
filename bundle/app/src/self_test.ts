// Does the model say here what it said when it was packed?

import type { Installed } from './store.ts';
import type { Engine } from './engine.ts';

/** The tokens that were expected and those that came. */
export interface SelfTestResult {
  passed: boolean;
  expected: number[];
  found: number[];
}

/** Continues the bundle's prompt greedily and compares. */
export async function selfTest(
  engine: Engine,
  { bundle, variant }: Installed,
): Promise<SelfTestResult> {
  const { expected } = variant;
  const { tokens: found } = await engine.generate(
    { text: bundle.selfTest.prompt },
    {
      temperature: 0,
      topK: 1,
      topP: 1,
      repetitionPenalty: 1,
      maxNewTokens: expected.length,
      fresh: true,
      withIds: true,
    },
  );
  return { passed: isSame(expected, found), expected, found };
}

function isSame(expected: readonly number[], found: readonly number[]): boolean {
  return expected.length === found.length && expected.every((token, i) => token === found[i]);
}
