// Does the model say here what it said when it was packed?

import type { Installed } from './store.ts';
import type { Engine } from './engine.ts';

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
  text: string;
}

/** Continues the bundle's prompt greedily and compares. */
export async function selfTest(
  engine: Pick<Engine, 'generate' | 'ends'>,
  { bundle, variant }: Installed,
): Promise<SelfTestResult> {
  const { expected, expectedText } = variant;
  const { text, tokens, figures } = await engine.generate(
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
  const found = { promptTokens: figures.promptTokens, tokens, text };
  const passed =
    isSame(expected, expectedText, bundle.selfTest.promptTokens.length, found) &&
    bundle.ends.every((id) => engine.ends(id));
  return { passed, expected, found: tokens };
}

/**
 * Whether the prompt was read as so many tokens, and the answer is the expected one: by the ids as
 * far as they are known, and by the text, which has the bytes of the others.
 */
export function isSame(
  expected: readonly number[],
  expectedText: string | null,
  promptTokens: number,
  found: Continuation,
): boolean {
  const { tokens } = found;
  const ids =
    tokens.length === expected.length &&
    expected.every((token, i) => tokens[i] === token || tokens[i] === null);
  const isKnown = tokens.every((token) => token !== null);
  const text = expectedText === null ? isKnown : plain(expectedText) === plain(found.text);
  return ids && text && found.promptTokens === promptTokens;
}

function isAscii(text: string): boolean {
  return /^[\x00-\x7f]*$/.test(text);
}

/** Programs differ in how many signs they write for bytes that are no text. */
function plain(text: string): string {
  return text.replace(/\ufffd+/g, '\ufffd');
}
