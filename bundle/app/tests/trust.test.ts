import { beforeEach, describe, expect, it } from 'vitest';

import { Trust } from '../src/trust.ts';
import { newMemory, newSigner } from './signer.ts';

const ADDRESS = 'https://host/bundle/';
const BUNDLE = new TextEncoder().encode('{"name":"tiny"}');
const [alice, bob, mallory] = [newSigner(), newSigner(), newSigner()];

describe('a key', () => {
  let memory = newMemory();
  let trust: Trust;
  beforeEach(() => {
    memory = newMemory();
    trust = new Trust(memory);
  });
  const judge = (text: string | null, address = ADDRESS) => trust.judge(BUNDLE, text, address);

  it('is pinned at first use', async () => {
    expect(await judge(alice.sign(BUNDLE))).toEqual({ state: 'valid', key: alice.key });
    const changed = { state: 'changed', pinned: alice.key, refused: false };
    expect(await judge(mallory.sign(BUNDLE))).toEqual({ ...changed, key: mallory.key });
    expect(await judge(null)).toEqual({ ...changed, key: null });
    expect(await judge(alice.sign(BUNDLE))).toMatchObject({ state: 'valid' });
  });

  it('of another address is another matter', async () => {
    await judge(alice.sign(BUNDLE));
    const elsewhere = await judge(mallory.sign(BUNDLE), 'https://host/other/');
    expect(elsewhere.state).toBe('valid');
  });

  it('whose signature does not hold is neither pinned nor valid once it was accepted', async () => {
    const other = alice.sign(new TextEncoder().encode('{}'));
    expect(await judge(other)).toMatchObject({ state: 'invalid' });
    expect(memory.map.size).toBe(0);
    trust.accept(ADDRESS, alice.key);
    expect(await judge(other)).toMatchObject({ state: 'invalid' });
  });

  it('that is new counts once the user trusts it', async () => {
    await judge(alice.sign(BUNDLE));
    trust.accept(ADDRESS, bob.key);
    expect((await judge(bob.sign(BUNDLE))).state).toBe('valid');
    expect((await judge(alice.sign(BUNDLE))).state).toBe('changed');
  });

  it('that is missing is accepted or refused by hand', async () => {
    await judge(alice.sign(BUNDLE));
    trust.refuse(ADDRESS, null);
    expect(await judge(null)).toMatchObject({ state: 'changed', refused: true });
    // What is refused is one key, or none; another one is asked about.
    expect(await judge(mallory.sign(BUNDLE))).toMatchObject({ state: 'changed', refused: false });
    trust.reconsider(ADDRESS);
    expect(await judge(null)).toMatchObject({ state: 'changed', refused: false });
    trust.accept(ADDRESS, null);
    expect(await judge(null)).toEqual({ state: 'unsigned' });
    // Whoever takes what anybody may have made has not said yes to the next key that comes.
    expect(await judge(mallory.sign(BUNDLE))).toMatchObject({
      state: 'changed',
      key: mallory.key,
      pinned: 'none',
    });
  });

  it('that the pinned one replaced is followed, and not back', async () => {
    await judge(alice.sign(BUNDLE));
    trust.installed(alice.key, '__proto__', 4);
    const rotated = bob.sign(BUNDLE, [alice.rotation(bob)]);
    expect(await judge(rotated)).toEqual({ state: 'valid', key: bob.key });
    // The old key's word is known by now, also where the old bundle comes without it.
    expect(await judge(alice.sign(BUNDLE))).toMatchObject({ state: 'changed', pinned: bob.key });
    expect(trust.newest(bob.key, '__proto__')).toBe(4);
    // A statement by others leads nowhere.
    const foreign = mallory.sign(BUNDLE, [alice.rotation(bob)]);
    expect(await judge(foreign)).toMatchObject({ state: 'changed', key: mallory.key });
  });

  it('that was revoked is remembered, wherever its signature comes from', async () => {
    await judge(alice.sign(BUNDLE));
    const told = bob.sign(BUNDLE, [alice.rotation(bob), alice.revocation()]);
    // Its word for a successor does not count: whoever took it could give it.
    expect(await judge(told)).toMatchObject({ state: 'changed', key: bob.key });
    expect(await judge(alice.sign(BUNDLE))).toEqual({ state: 'revoked', key: alice.key });
    const elsewhere = await judge(alice.sign(BUNDLE), 'https://host/other/');
    expect(elsewhere.state).toBe('revoked');
    expect([trust.isRevoked(alice.key), trust.isRevoked(bob.key)]).toEqual([true, false]);
  });

  it('keeps the newest release of each model', () => {
    trust.installed(alice.key, 'a', 3);
    trust.installed(alice.key, 'a', 2);
    expect([trust.newest(alice.key, 'a'), trust.newest(alice.key, 'b')]).toEqual([3, 0]);
    expect(trust.newest(bob.key, 'a')).toBe(0);
    memory.setItem(`releases:${bob.key}`, '{"a":1}');
    expect(trust.newest(bob.key, 'a')).toBe(0);
  });
});
