// What is typed stays text: llama.cpp finds special tokens wherever a prompt spells them, so one
// in a message is taken apart before it gets there.

/** Shows nothing, and is part of no special token. */
const ZERO_WIDTH_SPACE = '\u200b';

/** `text` with a character that shows nothing inside of every special token that it spells. */
export function asText(text: string, specials: readonly string[]): string {
  // A token of one letter cannot be taken apart.
  const known = specials.filter((special) => special.length > 1);
  if (!known.some((special) => text.includes(special))) return text;
  let out = '';
  for (let at = 0; at < text.length;) {
    const letter = String.fromCodePoint(text.codePointAt(at)!);
    const begins = known.some((special) => text.startsWith(special, at));
    out += begins ? letter + ZERO_WIDTH_SPACE : letter;
    at += letter.length;
  }
  return out;
}
