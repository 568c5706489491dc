import { readFileSync } from 'node:fs';
import { describe, expect, it, vi } from 'vitest';

import { isSignedBy } from '../src/ed25519.ts';
import { checkSignature, pathOfKeys, revokes } from '../src/signature.ts';

interface Golden {
  ed25519: {
    what: string;
    public_key: string;
    message: string;
    signature: string;
    accepted: boolean;
  }[];
  bundles: {
    what: string;
    bundle: string;
    signature: string;
    state: string;
    key?: string;
    trusted?: string;
    follows?: boolean;
  }[];
}

/** `bundle/src/signature.rs` reads the same cases; `make_signatures.py` beside them made them. */
const golden: Golden = JSON.parse(
  readFileSync(new URL('../../tests/golden/signatures.json', import.meta.url), 'utf8'),
);

const bytes = (digits: string) => new Uint8Array(Buffer.from(digits, 'hex'));

describe('of keys and signatures one spelling is accepted, as by the commands:', () => {
  it.each(golden.ed25519)('$what', async ({ public_key, message, signature, accepted }) => {
    expect(await isSignedBy(bytes(public_key), bytes(message), bytes(signature))).toBe(accepted);
  });

  it('a browser without Ed25519 of its own checks as well', async () => {
    const refuse = () => Promise.reject(new DOMException('Ed25519', 'NotSupportedError'));
    const importKey = vi.spyOn(crypto.subtle, 'importKey').mockImplementation(refuse);
    const verify = vi.spyOn(crypto.subtle, 'verify').mockImplementation(refuse);
    const [{ bundle, signature }] = golden.bundles as [Golden['bundles'][0]];
    expect((await checkSignature(bytes(bundle), signature)).state).toBe('valid');
    expect(importKey).not.toHaveBeenCalled();
    expect(verify).not.toHaveBeenCalled();
    vi.restoreAllMocks();
  });
});

describe('a bundle is judged as by the commands:', () => {
  it.each(golden.bundles)('$what', async ({ bundle, signature, state, key, trusted, follows }) => {
    const checked = await checkSignature(bytes(bundle), signature);
    expect(checked).toMatchObject({ state });
    if (checked.state !== 'valid') return;
    expect(checked.key).toBe(key);
    if (trusted === undefined) return;
    const { statements } = checked;
    const path = pathOfKeys(trusted, checked.key, statements, (one) => revokes(statements, one));
    expect(path !== null).toBe(follows);
  });
});
