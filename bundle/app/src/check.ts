// Checks of values that strangers wrote: each refuses with the name of the key, what it found and
// what was expected.

/** What was read breaks a rule; the message names the key. */
export class Refused extends Error {
  override name = 'Refused';
}

type Json = Record<string, unknown>;

/** Stops with a `Refused` unless `condition` holds. */
export function demand(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Refused(message);
}

/** `text` as JSON. */
export function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Refused(`${what} is no JSON`);
  }
}

/** `value` as an object whose keys are read one by one. */
export function asObject(value: unknown, what: string): Json {
  demand(
    typeof value === 'object' && value !== null && !Array.isArray(value),
    `${what}: expected an object`,
  );
  return value as Json;
}

/** `value` as a list of at most `limit` entries. */
export function asList(value: unknown, what: string, limit: number): unknown[] {
  demand(Array.isArray(value), `${what}: expected a list`);
  demand(value.length <= limit, `${what} has ${value.length} entries: expected at most ${limit}`);
  return value;
}

/** `value` as text of at most `limit` characters. */
export function asText(value: unknown, what: string, limit = 10_000): string {
  demand(typeof value === 'string', `${what}: expected text`);
  demand(!isLonger(value, limit), `${what} is longer than ${limit} characters`);
  return value;
}

/** Whether a text has more than `limit` characters; those outside of the basic plane are two units. */
function isLonger(text: string, limit: number): boolean {
  if (text.length <= limit) return false;
  return text.length > 2 * limit || [...text].length > limit;
}

/** `value` as one line that is shown: no control characters. */
export function asLine(value: unknown, what: string, limit = 200): string {
  const text = asText(value, what, limit);
  demand(!/\p{Cc}/u.test(text), `${what}: expected no control characters`);
  return text;
}

/** `value` as a finite number within the limits. */
export function asNumber(value: unknown, what: string, min: number, max: number): number {
  demand(
    typeof value === 'number' && value >= min && value <= max,
    `${what} is ${shown(value)}: expected a number from ${min} to ${max}`,
  );
  return value;
}

/** `value` as a whole number that doubles hold exactly. */
export function asCount(value: unknown, what: string, min = 0, max = Number.MAX_SAFE_INTEGER) {
  const number = asNumber(value, what, min, max);
  demand(Number.isSafeInteger(number), `${what} is ${number}: expected a whole number`);
  return number;
}

/** `value` as a day of the calendar, YYYY-MM-DD: days in this form are ordered as their texts are. */
export function asDay(value: unknown, what: string): string {
  const text = asText(value, what);
  const time = /^\d{4}-\d\d-\d\d$/.test(text) ? Date.parse(`${text}T00:00:00Z`) : NaN;
  // Some engines take the 30th of February for the 1st of March.
  const exists = !Number.isNaN(time) && new Date(time).toISOString().startsWith(text);
  demand(exists, `${what} is ${shown(value)}: expected a day that exists, as YYYY-MM-DD`);
  return text;
}

/** `value` as 64 lower-case hexadecimal digits. */
export function asDigest(value: unknown, what: string): string {
  const text = asText(value, what);
  demand(/^[0-9a-f]{64}$/.test(text), `${what}: expected 64 hexadecimal digits`);
  return text;
}

/** SHA-256 as 64 lower-case hexadecimal digits. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return hex(new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)));
}

/** Lower-case hexadecimal digits. */
export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function shown(value: unknown): string {
  return typeof value === 'number' || typeof value === 'string'
    ? JSON.stringify(value).slice(0, 80)
    : typeof value;
}
