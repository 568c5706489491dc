// What this browser remembers of who made bundles: the key seen first at each address, what the
// user decided, which keys were revoked, and the newest release of each model that was installed.

import { checkSignature, pathOfKeys, revokes } from './signature.ts';

/** What the signature says, to this browser. Keys are 64 hexadecimal digits. */
export type Signature =
  | { state: 'unsigned' }
  | { state: 'valid'; key: string }
  /** Does not belong to these bytes, or cannot be read. */
  | { state: 'invalid'; detail: string }
  /** Signed with a key that said itself that it no longer counts. */
  | { state: 'revoked'; key: string }
  /** Valid, or missing where `key` is null, but the key pinned for this address is another one. */
  | { state: 'changed'; key: string | null; pinned: string; refused: boolean };

/** Where it is kept: `localStorage` has this. */
export interface Memory {
  getItem(name: string): string | null;
  setItem(name: string, value: string): void;
  removeItem(name: string): void;
}

/** In place of a key where there is no signature. */
const NONE = 'none';

/** Decides by what it remembers. */
export class Trust {
  readonly #memory: Memory;

  constructor(memory: Memory) {
    this.#memory = memory;
  }

  /**
   * Checks `signature`, the text of `bundle.sig` or null, for the bytes of `bundle.json`. Pins its
   * key at first use, and follows from the pinned key to one that replaced it.
   */
  async judge(bundle: Uint8Array, signature: string | null, address: string): Promise<Signature> {
    const pinned = this.#memory.getItem(pinName(address));
    const changed = (key: string | null, pin: string): Signature => {
      const refused = this.#memory.getItem(refusalName(address)) === (key ?? NONE);
      return { state: 'changed', key, pinned: pin, refused };
    };
    if (signature === null) {
      const isExpected = pinned === null || pinned === NONE;
      return isExpected ? { state: 'unsigned' } : changed(null, pinned);
    }
    const checked = await checkSignature(bundle, signature);
    if (checked.state === 'invalid') return checked;
    const { key, statements } = checked;
    for (const one of statements) {
      if (revokes(statements, one.key)) this.#memory.setItem(revocationName(one.key), 'yes');
    }
    if (this.isRevoked(key)) return { state: 'revoked', key };
    const isRevoked = (one: string) => this.isRevoked(one);
    const path = pathOfKeys(pinned ?? key, key, statements, isRevoked);
    if (path === null) return changed(key, pinned ?? key);
    for (const old of path.slice(0, -1)) this.#carry(old, key);
    this.#memory.setItem(pinName(address), key);
    return { state: 'valid', key };
  }

  /** From now on `key` is the one for this address, or none where it is null. */
  accept(address: string, key: string | null): void {
    this.#memory.removeItem(refusalName(address));
    this.#memory.setItem(pinName(address), key ?? NONE);
  }

  /** Remembers that the user wants nothing by `key`, or nothing unsigned, from this address. */
  refuse(address: string, key: string | null): void {
    this.#memory.setItem(refusalName(address), key ?? NONE);
  }

  /** Forgets what was refused at this address. */
  reconsider(address: string): void {
    this.#memory.removeItem(refusalName(address));
  }

  /** Whether `key` said that nothing it signed counts any more. */
  isRevoked(key: string): boolean {
    return this.#memory.getItem(revocationName(key)) !== null;
  }

  /** The newest release of a model by `key` that was installed here; 0 where none was. */
  newest(key: string, name: string): number {
    return this.#releases(key).get(name) ?? 0;
  }

  /** Remembers that this release was installed. */
  installed(key: string, name: string, release: number): void {
    const releases = this.#releases(key);
    releases.set(name, Math.max(release, releases.get(name) ?? 0));
    this.#memory.setItem(releasesName(key), JSON.stringify([...releases]));
  }

  /** What was installed by `old` counts for the key that replaced it. */
  #carry(old: string, key: string): void {
    for (const [name, release] of this.#releases(old)) this.installed(key, name, release);
  }

  #releases(key: string): Map<string, number> {
    try {
      const entries: unknown = JSON.parse(this.#memory.getItem(releasesName(key)) ?? '[]');
      if (!Array.isArray(entries)) return new Map();
      return new Map(entries.filter(isRelease));
    } catch {
      return new Map();
    }
  }
}

function isRelease(entry: unknown): entry is [string, number] {
  const [name, release] = Array.isArray(entry) ? entry : [];
  return typeof name === 'string' && Number.isSafeInteger(release);
}

function pinName(address: string): string {
  return `pinned-key:${address}`;
}

function refusalName(address: string): string {
  return `refused-key:${address}`;
}

function revocationName(key: string): string {
  return `revoked-key:${key}`;
}

function releasesName(key: string): string {
  return `releases:${key}`;
}
