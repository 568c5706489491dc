import { generateKeyPairSync, sign } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';

import { checkSignature, pin } from '../src/signature.ts';
import type { Pins } from '../src/signature.ts';

const ADDRESS = 'https://host/bundle/';
const BUNDLE = new TextEncoder().encode('{"name":"tiny"}');

function keyPair() {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const key = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32).toString('hex');
  const signed = (bytes: Uint8Array, change = {}) =>
    JSON.stringify({
      format: 'pocketgpt-signature',
      version: 1,
      algorithm: 'Ed25519',
      public_key: key,
      signature: sign(null, bytes, privateKey).toString('hex'),
      ...change,
    });
  return { key, signed };
}

describe('a signature', () => {
  const alice = keyPair();
  const mallory = keyPair();
  let pins: Pins;
  beforeEach(() => {
    const map = new Map<string, string>();
    pins = { getItem: (key) => map.get(key) ?? null, setItem: (key, value) => map.set(key, value) };
  });
  const check = (text: string | null, address = ADDRESS) =>
    checkSignature(BUNDLE, text, address, pins);

  it('is valid for the bytes that were signed, and no others', async () => {
    expect(await check(alice.signed(BUNDLE))).toEqual({ state: 'valid', key: alice.key });
    const other = alice.signed(new TextEncoder().encode('{"name":"evil"}'));
    expect(await check(other)).toEqual({ state: 'invalid' });
  });

  it('pins its key at first use', async () => {
    await check(alice.signed(BUNDLE));
    const changed = { state: 'changed', pinned: alice.key };
    expect(await check(mallory.signed(BUNDLE))).toEqual({ ...changed, key: mallory.key });
    expect(await check(null)).toEqual({ ...changed, key: null });
    expect(await check(alice.signed(BUNDLE))).toMatchObject({ state: 'valid' });
  });

  it('of another address is another matter', async () => {
    await check(alice.signed(BUNDLE));
    const elsewhere = await check(mallory.signed(BUNDLE), 'https://host/other/');
    expect(elsewhere.state).toBe('valid');
  });

  it('by a new key counts once the user trusts it', async () => {
    await check(alice.signed(BUNDLE));
    pin(ADDRESS, mallory.key, pins);
    expect((await check(mallory.signed(BUNDLE))).state).toBe('valid');
  });

  it('that is missing leaves the bundle unsigned', async () => {
    expect(await check(null)).toEqual({ state: 'unsigned' });
  });

  it.each([
    ['no JSON', 'x'],
    ['another format', alice.signed(BUNDLE, { format: 'x' })],
    ['another algorithm', alice.signed(BUNDLE, { algorithm: 'RSA' })],
    ['a short key', alice.signed(BUNDLE, { public_key: 'ab' })],
    ['a short signature', alice.signed(BUNDLE, { signature: 'ab' })],
  ])('with %s is invalid and pins nothing', async (_, text) => {
    expect(await check(text)).toEqual({ state: 'invalid' });
    expect(await check(null)).toEqual({ state: 'unsigned' });
  });
});
