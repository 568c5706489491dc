// Who made this bundle: `bundle.sig` is an Ed25519 signature over the bytes of `bundle.json`. The
// key that is seen first at an address is pinned; another key, or none, is refused afterwards.

import { asObject, asText, demand, parseJson } from './check.ts';

/** What the signature says. */
export type Signature =
  | { state: 'unsigned' }
  /** Signed, but this browser does not know Ed25519. */
  | { state: 'unchecked'; key: string }
  | { state: 'valid'; key: string }
  /** Does not belong to these bytes, or cannot be read. */
  | { state: 'invalid' }
  /** Valid or missing, but the key pinned for this address is another one. */
  | { state: 'changed'; key: string | null; pinned: string };

/** Where pins are kept: `localStorage` has this. */
export interface Pins {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
}

/** Checks `signature`, the text of `bundle.sig` or null, and pins its key at first use. */
export async function checkSignature(
  bundle: Uint8Array<ArrayBuffer>,
  signature: string | null,
  address: string,
  pins: Pins,
): Promise<Signature> {
  const pinned = pins.getItem(pinName(address));
  if (signature === null) {
    return pinned === null ? { state: 'unsigned' } : { state: 'changed', key: null, pinned };
  }
  const checked = await verify(bundle, signature);
  if (checked.state === 'invalid') return checked;
  if (pinned !== null && pinned !== checked.key) {
    return { state: 'changed', key: checked.key, pinned };
  }
  if (checked.state === 'valid') pins.setItem(pinName(address), checked.key);
  return checked;
}

/** Trusts `key` at this address from now on. */
export function pin(address: string, key: string, pins: Pins): void {
  pins.setItem(pinName(address), key);
}

async function verify(bundle: Uint8Array<ArrayBuffer>, text: string) {
  let key: string;
  let signature: string;
  try {
    const json = asObject(parseJson(text, 'bundle.sig'), 'bundle.sig');
    demand(
      json['format'] === 'pocketgpt-signature' && json['version'] === 1,
      'bundle.sig: expected version 1 of pocketgpt-signature',
    );
    demand(json['algorithm'] === 'Ed25519', 'bundle.sig: expected Ed25519');
    key = asText(json['public_key'], 'public_key');
    signature = asText(json['signature'], 'signature');
    demand(/^[0-9a-f]{64}$/.test(key), 'public_key: expected 64 hexadecimal digits');
    demand(/^[0-9a-f]{128}$/.test(signature), 'signature: expected 128 hexadecimal digits');
  } catch {
    return { state: 'invalid' } as const;
  }
  let imported: CryptoKey;
  try {
    imported = await crypto.subtle.importKey('raw', bytes(key), 'Ed25519', false, ['verify']);
  } catch (error) {
    const unknown = error instanceof DOMException && error.name === 'NotSupportedError';
    return unknown ? ({ state: 'unchecked', key } as const) : ({ state: 'invalid' } as const);
  }
  const holds = await crypto.subtle.verify('Ed25519', imported, bytes(signature), bundle);
  return holds ? ({ state: 'valid', key } as const) : ({ state: 'invalid' } as const);
}

function bytes(hex: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(hex.match(/../g) ?? [], (digits) => parseInt(digits, 16));
}

function pinName(address: string): string {
  return `pinned-key:${address}`;
}
