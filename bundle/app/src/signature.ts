// `bundle.sig`: who made a bundle, and what keys say of themselves, as bundle/src/signature.rs and
// statement.rs write them. What this browser remembers of keys is in trust.ts. Both programs are
// held to bundle/tests/golden/signatures.json.

import { Refused, asList, asObject, asText, demand, parseJson } from './check.ts';
import { isSignedBy } from './ed25519.ts';

/** Largest `bundle.sig` that is read, in bytes. */
export const SIGNATURE_BYTES = 64 << 10;
const MAX_STATEMENTS = 64;

/** What a key says of itself: that `newKey` replaces it, or, without one, that it is revoked. */
export interface Statement {
  key: string;
  newKey: string | null;
}

/** What `bundle.sig` says. Keys are 64 hexadecimal digits. */
export type Checked =
  | { state: 'valid'; key: string; statements: Statement[] }
  /** The key itself said that nothing it signed counts any more. */
  | { state: 'revoked'; key: string; statements: Statement[] }
  /** Does not belong to these bytes, cannot be read, or contradicts itself. */
  | { state: 'invalid'; detail: string };

/** Checks `text`, a `bundle.sig`, against the bytes of `bundle.json`. */
export async function checkSignature(bundle: Uint8Array, text: string): Promise<Checked> {
  try {
    return await check(bundle, text);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return { state: 'invalid', detail: error.message };
  }
}

/**
 * The keys from `trusted` to `signer`, both included, each replaced by the next; null where none
 * lead there. What a revoked key says of its successor does not count: whoever took it could say
 * the same.
 */
export function pathOfKeys(
  trusted: string,
  signer: string,
  statements: readonly Statement[],
  isRevoked: (key: string) => boolean,
): string[] | null {
  const path: string[] = [];
  for (let key: string | undefined = trusted; key !== undefined;) {
    // A circle has more steps than there are statements.
    if (isRevoked(key) || path.length > statements.length) return null;
    path.push(key);
    if (key === signer) return path;
    key = successor(key, statements);
  }
  return null;
}

/** Whether one of the statements revokes `key`. */
export function revokes(statements: readonly Statement[], key: string): boolean {
  return statements.some((one) => one.key === key && one.newKey === null);
}

function successor(key: string, statements: readonly Statement[]): string | undefined {
  return statements.find((one) => one.key === key && one.newKey !== null)?.newKey ?? undefined;
}

async function check(bundle: Uint8Array, text: string): Promise<Checked> {
  const json = asObject(parseJson(text, 'bundle.sig'), 'bundle.sig');
  demand(
    json['format'] === 'pocketgpt-signature' && json['version'] === 2,
    'bundle.sig: expected version 2 of pocketgpt-signature',
  );
  const names = ['format', 'version', 'algorithm', 'public_key', 'signature', 'statements'];
  demandNames(json, names, 'bundle.sig');
  demand(json['algorithm'] === 'Ed25519', 'bundle.sig: expected Ed25519');
  const key = asHex(json['public_key'], 32, 'public_key');
  await demandSignature(key, 'bundle', bundle, json['signature']);
  const statements: Statement[] = [];
  for (const entry of asList(json['statements'], 'statements', MAX_STATEMENTS)) {
    const statement = await checkStatement(asObject(entry, 'statement'));
    const twice = statements.some(
      (other) =>
        other.key === statement.key && (other.newKey === null) === (statement.newKey === null),
    );
    demand(!twice, `${statement.key} has two statements of one kind`);
    statements.push(statement);
  }
  if (revokes(statements, key)) return { state: 'revoked', key, statements };
  demand(successor(key, statements) === undefined, `${key} was replaced, as it says itself`);
  return { state: 'valid', key, statements };
}

async function checkStatement(json: Record<string, unknown>): Promise<Statement> {
  demand(
    json['format'] === 'pocketgpt-key-statement' && json['version'] === 1,
    'statement: expected version 1 of pocketgpt-key-statement',
  );
  const { kind } = json;
  demand(kind === 'rotation' || kind === 'revocation', 'statement: expected one of a known kind');
  const names = ['format', 'version', 'kind', 'key', 'signature'];
  const key = asHex(json['key'], 32, 'key');
  if (kind === 'revocation') {
    demandNames(json, names, kind);
    await demandSignature(key, kind, encode(`${key}\n`), json['signature']);
    return { key, newKey: null };
  }
  demandNames(json, [...names, 'new_key'], kind);
  const newKey = asHex(json['new_key'], 32, 'new_key');
  demand(newKey !== key, `the rotation of ${key} is to itself`);
  await demandSignature(key, kind, encode(`${key}\n${newKey}\n`), json['signature']);
  return { key, newKey };
}

/** What is signed begins with a line that says what it is, so that none passes for another. */
async function demandSignature(key: string, kind: string, content: Uint8Array, signature: unknown) {
  const head = encode(`pocketgpt-signature 2 ${kind}\n`);
  const message = new Uint8Array(head.length + content.length);
  message.set(head);
  message.set(content, head.length);
  const holds = await isSignedBy(bytes(key), message, bytes(asHex(signature, 64, 'signature')));
  demand(holds, `the signature is not by ${key}, or not of this ${kind}`);
}

function demandNames(json: Record<string, unknown>, names: string[], what: string): void {
  for (const name of Object.keys(json)) demand(names.includes(name), `${what}: unknown ${name}`);
}

/** `value` as lower-case hexadecimal digits of so many bytes. */
function asHex(value: unknown, count: number, what: string): string {
  const text = asText(value, what);
  const digits = text.length === 2 * count && /^[0-9a-f]*$/.test(text);
  demand(digits, `${what}: expected ${2 * count} hexadecimal digits`);
  return text;
}

function bytes(digits: string): Uint8Array {
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
