import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { readCapped } from '../src/capped.ts';
import { Refused } from '../src/check.ts';
import { Models, PiecesGone } from '../src/models.ts';
import { parseRecord } from '../src/store.ts';
import type { Installed, InstalledSource } from '../src/store.ts';
import { openStored } from '../src/stored.ts';
import { FRAGMENTS, MemoryStore, PIECES, bundleJson, manifestJson } from './samples.ts';
import type { Json } from './samples.ts';
import { newMemory, newSigner } from './signer.ts';

const HOST = 'https://host/';
const sha = (data: string | Uint8Array) => createHash('sha256').update(data).digest('hex');
const encode = (text: string) => new TextEncoder().encode(text);
const WHOLE = Buffer.concat(PIECES);

/** Keeps models in memory, too. */
class MemoryModels extends MemoryStore {
  readonly records = new Map<string, InstalledSource>();

  async present(): Promise<number> {
    return [...this.files.values()].reduce((sum, { length }) => sum + length, 0);
  }
  async install(id: string, source: InstalledSource): Promise<void> {
    this.records.set(id, source);
  }
  async installed(): Promise<Installed[]> {
    return [...this.records.values()].map((one) => parseRecord(JSON.stringify(one)));
  }
  async remove(): Promise<void> {}
}

/** A bundle whose manifest is the one that it lists. */
function bundleText(change: Json = {}, app = 'the app'): string {
  const json = bundleJson();
  const manifest = JSON.stringify(manifestJson());
  Object.assign(json.files[0], { size: manifest.length, sha256: sha(manifest) });
  json.files.push({ path: 'app/sw.js', size: app.length, sha256: sha(app), blake3: sha(app) });
  return JSON.stringify({ ...json, ...change });
}

describe('the models', () => {
  const alice = newSigner();
  let files: Map<string, string | Uint8Array>;
  let store: MemoryModels;
  let models: Models;
  const offer = () => models.state.value.offer;

  beforeEach(() => {
    files = new Map<string, string | Uint8Array>([
      ['model/Q8_0.manifest.json', JSON.stringify(manifestJson())],
      ['app/sw.js', 'the app'],
      ...FRAGMENTS.map(({ file }, at) => [`model/${file}`, PIECES[at]!] as const),
    ]);
    vi.stubGlobal('fetch', async (input: string) => {
      const body = files.get(String(input).slice(HOST.length));
      return body === undefined ? new Response('', { status: 404 }) : new Response(body as string);
    });
    vi.stubGlobal('navigator', { storage: { estimate: async () => ({}) } });
    vi.spyOn(console, 'warn').mockImplementation(() => {});
    store = new MemoryModels();
    models = new Models(store, HOST, newMemory());
  });
  afterEach(() => {
    vi.unstubAllGlobals();
    vi.restoreAllMocks();
  });

  /** Serves a signed bundle, and what the page makes of it. */
  async function serve(change: Json = {}, signer = alice, statements: object[] = []) {
    const text = bundleText(change);
    files.set('bundle.json', text);
    files.set('bundle.sig', signer.sign(encode(text), statements));
    await models.findOffer();
    return offer();
  }

  const install = () => models.install(offer()!.bundle.variants[0]!);

  it('of an older release than was installed are refused, unless the user wants them', async () => {
    expect(await serve({ release: 3 })).toMatchObject({ stale: null });
    expect(await install()).not.toBeNull();
    const older = { stale: { kind: 'older', newest: 3 }, signature: { state: 'valid' } };
    expect(await serve({ release: 2 })).toMatchObject(older);
    store.records.clear();
    expect(await install()).toBeNull();
    // Who signs may also have left the number out.
    expect(await serve()).toMatchObject(older);
    expect(await serve({ release: 2, name: 'another' })).toMatchObject({ stale: null });
    expect(await serve({ release: 3 })).toMatchObject({ stale: null });
    await serve({ release: 2 });
    models.acceptStale();
    expect(await install()).not.toBeNull();
    // To have gone back once does not make the older one the newest.
    expect(await serve({ release: 2 })).toMatchObject(older);
  });

  it('of an older release are refused also after the key was replaced', async () => {
    await serve({ release: 3 });
    await install();
    const bob = newSigner();
    const older = await serve({ release: 2 }, bob, [alice.rotation(bob)]);
    expect(older).toMatchObject({
      signature: { state: 'valid', key: bob.key },
      stale: { kind: 'older', newest: 3 },
    });
  });

  it('are not installed after their last day, unless the user wants them', async () => {
    expect(await serve({ release: 1, expires: '9999-12-31' })).toMatchObject({ stale: null });
    const expired = await serve({ release: 1, expires: '2001-02-03' });
    expect(expired).toMatchObject({ stale: { kind: 'expired', day: '2001-02-03' } });
    expect(await install()).toBeNull();
    models.acceptStale();
    expect(await install()).not.toBeNull();
  });

  it('whose bytes are not those signed are refused, though their text is the same', async () => {
    const text = bundleText();
    files.set('bundle.json', Buffer.concat([encode('\ufeff'), encode(text)]));
    files.set('bundle.sig', alice.sign(encode(text)));
    await models.findOffer();
    expect(offer()).toBeNull();
    expect(models.state.value.offerProblem).toMatchObject({ kind: 'refused' });
    files.set('bundle.json', text.replace('tiny', 'tin\ufffd'));
    const spoilt = Buffer.from(text.replace('tiny', 'tin~'));
    spoilt[spoilt.indexOf('~')] = 0xff;
    files.set('bundle.json', spoilt);
    await models.findOffer();
    expect(models.state.value.offerProblem).toMatchObject({ detail: /UTF-8/ });
  });

  it('by another key are never called valid before their signature was checked', async () => {
    await serve();
    const mallory = newSigner();
    const text = bundleText();
    files.set('bundle.sig', mallory.sign(encode(`${text} `)));
    await models.findOffer();
    await models.acceptKey();
    expect(offer()).toMatchObject({ signature: { state: 'invalid' } });
    expect(await install()).toBeNull();
    files.set('bundle.sig', mallory.sign(encode(text)));
    await models.findOffer();
    expect(offer()).toMatchObject({ signature: { state: 'changed', key: mallory.key } });
    // What was signed may have changed by the time that the user has decided.
    files.set('bundle.json', `${text} `);
    await models.acceptKey();
    expect(offer()).toMatchObject({ signature: { state: 'invalid' } });
  });

  it('that came unsigned after signed ones are the choice of the user', async () => {
    await serve();
    files.delete('bundle.sig');
    await models.findOffer();
    expect(offer()).toMatchObject({ signature: { state: 'changed', key: null } });
    expect(await install()).toBeNull();
    await models.refuseKey();
    expect(offer()).toMatchObject({ signature: { refused: true } });
    await models.reconsiderKey();
    expect(offer()).toMatchObject({ signature: { refused: false } });
    await models.acceptKey();
    expect(offer()).toMatchObject({ signature: { state: 'unsigned' } });
    expect(await install()).not.toBeNull();
  });

  it('say when the host serves another app than the signed bundle lists', async () => {
    await serve();
    expect(models.state.value.appChanged).toBe(false);
    files.set('app/sw.js', 'another app');
    await serve();
    expect(models.state.value.appChanged).toBe(true);
  });

  it('are opened with every piece verified, and what is damaged is fetched again', async () => {
    await serve();
    const installed = (await install())!;
    const read = async () => Buffer.from(await (await models.open(installed)).arrayBuffer());
    expect(await read()).toEqual(WHOLE);
    const [{ file, size }] = FRAGMENTS as [(typeof FRAGMENTS)[0]];
    const damaged = PIECES[0]!.slice();
    damaged[size - 1]! ^= 1;
    for (const spoilt of [damaged, new Uint8Array(0), null]) {
      if (spoilt) store.files.set(file, spoilt);
      else store.files.delete(file);
      expect(await read()).toEqual(WHOLE);
      expect(store.files.get(file)).toEqual(PIECES[0]);
    }
    store.files.set(file, damaged);
    files.set(`model/${file}`, damaged);
    await expect(models.open(installed)).rejects.toThrow(PiecesGone);
    await expect(models.open(installed)).rejects.toThrow(file);
  });
});

describe('stored pieces', () => {
  it('that cannot be read are named, and the others are not', async () => {
    const store = new MemoryStore();
    for (const [at, { file }] of FRAGMENTS.entries()) store.files.set(file, PIECES[at]!.slice());
    expect((await openStored(FRAGMENTS, store)).unsound).toEqual([]);
    const read = store.read.bind(store);
    store.read = async (file) => {
      const blob = await read(file);
      if (blob && file === FRAGMENTS[1]!.file) {
        blob.arrayBuffer = () => Promise.reject(new DOMException('gone', 'NotReadableError'));
      }
      return blob;
    };
    expect(await openStored(FRAGMENTS, store)).toEqual({ blob: null, unsound: [FRAGMENTS[1]] });
  });
});

describe('an answer', () => {
  const endless = () => {
    let sent = 0;
    const body = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        sent += 10;
        controller.enqueue(new Uint8Array(10));
      },
    });
    return { response: new Response(body), sent: () => sent };
  };

  it('is read up to its limit', async () => {
    const text = 'a'.repeat(100);
    expect((await readCapped(new Response(text), 100, 'x')).length).toBe(100);
    expect((await readCapped(new Response(null), 100, 'x')).length).toBe(0);
    await expect(readCapped(new Response(text), 99, 'x')).rejects.toThrow(Refused);
  });

  it('that does not say its size is not read past the limit', async () => {
    const { response, sent } = endless();
    await expect(readCapped(response, 100, 'bundle.json')).rejects.toThrow(
      'bundle.json is larger than 100 bytes',
    );
    expect(sent()).toBeLessThan(200);
  });

  it('that says it is too large is not read at all', async () => {
    const headers = { 'Content-Length': '101' };
    await expect(readCapped(new Response('a', { headers }), 100, 'x')).rejects.toThrow('larger');
  });
});
