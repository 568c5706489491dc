// Keys that sign bundles and statements in tests, by Node's own Ed25519.

import { generateKeyPairSync, sign } from 'node:crypto';

export interface Signer {
  key: string;
  /** A `bundle.sig`. */
  sign(bundle: Uint8Array, statements?: object[]): string;
  /** The statement that another key replaces this one. */
  rotation(to: Signer): object;
  revocation(): object;
}

export function newSigner(): Signer {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const key = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32).toString('hex');
  const signature = (kind: string, content: Uint8Array) => {
    const head = Buffer.from(`pocketgpt-signature 2 ${kind}\n`);
    return sign(null, Buffer.concat([head, content]), privateKey).toString('hex');
  };
  const statement = { format: 'pocketgpt-key-statement', version: 1, key };
  return {
    key,
    sign: (bundle, statements = []) =>
      JSON.stringify({
        format: 'pocketgpt-signature',
        version: 2,
        algorithm: 'Ed25519',
        public_key: key,
        signature: signature('bundle', bundle),
        statements,
      }),
    rotation: (to) => ({
      ...statement,
      kind: 'rotation',
      new_key: to.key,
      signature: signature('rotation', Buffer.from(`${key}\n${to.key}\n`)),
    }),
    revocation: () => ({
      ...statement,
      kind: 'revocation',
      signature: signature('revocation', Buffer.from(`${key}\n`)),
    }),
  };
}

/** What `localStorage` is, in memory. */
export function newMemory() {
  const map = new Map<string, string>();
  return {
    map,
    getItem: (name: string) => map.get(name) ?? null,
    setItem: (name: string, value: string) => void map.set(name, value),
    removeItem: (name: string) => void map.delete(name),
  };
}
