// Does the model say here what it said when it was packed?

import type { Installed } from './store.ts';
import type { Alternatives, Engine } from './engine.ts';

/** Two tokens are as good as equally likely where their log-probabilities differ by less: one of them
 *  may be the likeliest with one program's rounding, and the other with another's. */
const TIE = 0.05;

/** The tokens that were expected and those that came; null where the engine does not tell which. */
export interface SelfTestResult {
  passed: boolean;
  expected: number[];
  found: (number | null)[];
}

/** What came of the prompt. */
export interface Continuation {
  /** Tokens that the prompt became. */
  promptTokens: number;
  tokens: (number | null)[];
  /** What else each token could have been, where the engine tells. */
  alternatives?: (Alternatives | null)[];
  text: string;
}

/** Continues the bundle's prompt greedily and compares. */
export async function selfTest(
  engine: Pick<Engine, 'generate' | 'ends'>,
  { bundle, variant }: Installed,
): Promise<SelfTestResult> {
  const { expected, expectedText } = variant;
  const { text, tokens, alternatives, figures } = await engine.generate(
    { text: bundle.selfTest.prompt },
    {
      temperature: 0,
      topK: 1,
      topP: 1,
      repetitionPenalty: 1,
      maxNewTokens: expected.length,
      fresh: true,
      // The engine fails to tell the ids of tokens that are parts of a character.
      withIds: expectedText === null || isAscii(expectedText),
    },
  );
  const found = { promptTokens: figures.promptTokens, tokens, alternatives, text };
  const passed =
    isSame(expected, expectedText, bundle.selfTest.promptTokens.length, found) &&
    bundle.ends.every((id) => engine.ends(id));
  return { passed, expected, found: tokens };
}

/**
 * Whether the prompt was read as so many tokens, and the answer is the expected one: by the ids as
 * far as they are known, and by the text, which has the bytes of the others. From a tie on, the two
 * answers may go different ways.
 */
export function isSame(
  expected: readonly number[],
  expectedText: string | null,
  promptTokens: number,
  found: Continuation,
): boolean {
  const { tokens, alternatives } = found;
  if (found.promptTokens !== promptTokens) return false;
  const other = tokens.findIndex((token, i) => token !== null && token !== expected[i]);
  const before = tokens.slice(0, Math.max(0, other));
  if (other >= 0 && before.every((token) => token !== null)) {
    return isTie(alternatives?.[other] ?? null, tokens[other]!, expected[other]);
  }
  const ids =
    tokens.length === expected.length &&
    expected.every((token, i) => tokens[i] === token || tokens[i] === null);
  const isKnown = tokens.every((token) => token !== null);
  const text = expectedText === null ? isKnown : plain(expectedText) === plain(found.text);
  return ids && text;
}

/** Whether both tokens are among the alternatives, and about as likely. */
function isTie(
  alternatives: Alternatives | null,
  found: number,
  expected: number | undefined,
): boolean {
  const [one, other] = [found, expected].map(
    (token) => alternatives?.find(({ id }) => id === token)?.logprob,
  );
  return one !== undefined && other !== undefined && Math.abs(one - other) < TIE;
}

function isAscii(text: string): boolean {
  return /^[\x00-\x7f]*$/.test(text);
}

/** Programs differ in how many signs they write for bytes that are no text. */
function plain(text: string): string {
  return text.replace(/\ufffd+/g, '\ufffd');
}
