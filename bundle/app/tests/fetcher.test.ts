import { describe, expect, it, vi } from 'vitest';

import { FetchFailed, fetchFragments } from '../src/fetcher.ts';
import type { FetchJob, Progress } from '../src/fetcher.ts';
import { StorageFull } from '../src/store.ts';
import { FRAGMENTS, MemoryStore, PIECES } from './samples.ts';

type Reply = (from: number) => Response | Promise<Response>;

const [first, second] = FRAGMENTS as [(typeof FRAGMENTS)[0], (typeof FRAGMENTS)[0]];
const TOTAL = first.size + second.size;

/** A server of the two pieces whose answers can be replaced one by one. */
function setUp(replies: Record<string, Reply[]> = {}) {
  const store = new MemoryStore();
  const requests: { file: string; from: number }[] = [];
  const progress: Progress[] = [];
  const waits: number[] = [];
  const abort = new AbortController();
  const get = async (input: RequestInfo | URL, init?: RequestInit) => {
    init?.signal?.throwIfAborted();
    const file = String(input).split('/').pop()!;
    const from = Number(
      /bytes=(\d+)-/.exec(new Headers(init?.headers).get('Range') ?? '')?.[1] ?? 0,
    );
    requests.push({ file, from });
    return (replies[file]?.shift() ?? ((at) => whole(file, at)))(from);
  };
  const job: FetchJob = {
    fragments: FRAGMENTS,
    store,
    url: (file) => `http://host/model/${file}`,
    signal: abort.signal,
    onProgress: (one) => progress.push(one),
    fetch: get as typeof fetch,
    wait: async (milliseconds) => void waits.push(milliseconds),
    now: () => progress.length * 100,
  };
  return { store, requests, progress, waits, abort, job };
}

function whole(file: string, from = 0): Response {
  const bytes = PIECES[FRAGMENTS.findIndex((fragment) => fragment.file === file)]!;
  return new Response(bytes.slice(from), { status: from > 0 ? 206 : 200 });
}

/** The first `count` bytes, and then the connection breaks. */
function cut(file: string, count: number): Reply {
  return (from) => {
    const bytes = PIECES[FRAGMENTS.findIndex((fragment) => fragment.file === file)]!;
    const body = new ReadableStream({
      start: (controller) => controller.enqueue(bytes.slice(from, from + count)),
      pull: (controller) => controller.error(new TypeError('network error')),
    });
    return new Response(body, { status: from > 0 ? 206 : 200 });
  };
}

const spoilt: Reply = () => new Response('x'.repeat(first.size));

describe('fetching', () => {
  it('brings every piece once, also one that is used twice', async () => {
    const { store, requests, progress, job } = setUp();
    await fetchFragments(job);
    expect([...store.files.keys()].sort()).toEqual([first.file, second.file].sort());
    expect(requests).toHaveLength(2);
    expect(progress.at(-1)).toMatchObject({ received: TOTAL, total: TOTAL });
  });

  it('leaves out what is here, and repairs what is damaged here', async () => {
    const { store, requests, job } = setUp();
    store.files.set(first.file, PIECES[0]!.slice());
    store.files.set(second.file, new Uint8Array(second.size));
    await fetchFragments(job);
    expect(requests.map(({ file }) => file)).toEqual([second.file]);
    expect(store.files.get(second.file)).toEqual(PIECES[1]);
  });

  it('fetches a damaged piece again and never stores it', async () => {
    const { store, requests, job } = setUp({ [first.file]: [spoilt, spoilt] });
    const write = vi.spyOn(store, 'write');
    await fetchFragments(job);
    expect(requests.filter(({ file }) => file === first.file)).toHaveLength(3);
    expect(write.mock.calls.filter(([file]) => file === first.file)).toHaveLength(1);
    expect(store.files.get(first.file)).toEqual(PIECES[0]);
  });

  it('gives up on a piece that stays damaged', async () => {
    const { store, job } = setUp({ [first.file]: Array(9).fill(spoilt) });
    await expect(fetchFragments(job)).rejects.toMatchObject({ problem: 'damaged' });
    expect(store.files.has(first.file)).toBe(false);
  });

  it('refuses a piece that is too long', async () => {
    const long: Reply = () => new Response('x'.repeat(first.size + 1));
    const { job } = setUp({ [first.file]: Array(99).fill(long) });
    await expect(fetchFragments(job)).rejects.toBeInstanceOf(FetchFailed);
  });

  it('continues where a connection was cut', async () => {
    const { store, requests, job } = setUp({
      [first.file]: [cut(first.file, 4), cut(first.file, 3)],
    });
    await fetchFragments(job);
    const starts = requests.filter(({ file }) => file === first.file).map(({ from }) => from);
    expect(starts).toEqual([0, 4, 7]);
    expect(store.files.get(first.file)).toEqual(PIECES[0]);
  });

  it('starts anew where the server knows no ranges', async () => {
    const { store, job } = setUp({
      [first.file]: [cut(first.file, 4), () => whole(first.file)],
    });
    await fetchFragments(job);
    expect(store.files.get(first.file)).toEqual(PIECES[0]);
  });

  it('waits longer before each try without a new byte, then gives up', async () => {
    const broken: Reply = () => Promise.reject(new TypeError('Failed to fetch'));
    const { waits, job } = setUp({ [first.file]: Array(9).fill(broken) });
    await expect(fetchFragments(job)).rejects.toMatchObject({ problem: 'connection' });
    expect(waits).toEqual([500, 1000, 2000]);
  });

  it('says when a piece is missing', async () => {
    const missing: Reply = () => new Response('', { status: 404 });
    const { job } = setUp({ [first.file]: Array(9).fill(missing) });
    await expect(fetchFragments(job)).rejects.toMatchObject({ problem: 'missing' });
  });

  it('ends when it is cancelled, and resumes', async () => {
    const { store, requests, abort, job } = setUp();
    const cancelled = fetchFragments({
      ...job,
      fragments: [first, second],
      store: {
        read: (file) => store.read(file),
        write: async (file, bytes) => {
          await store.write(file, bytes);
          abort.abort();
        },
      },
    });
    await expect(cancelled).rejects.toMatchObject({ name: 'AbortError' });
    const kept = [...store.files.keys()];
    expect(kept).toHaveLength(1);
    requests.length = 0;
    await fetchFragments({ ...job, signal: new AbortController().signal });
    expect(requests.map(({ file }) => file)).not.toContain(kept[0]);
    expect(store.files.size).toBe(2);
  });

  it('passes on that the storage is full', async () => {
    const { store, job } = setUp();
    store.write = () => Promise.reject(new StorageFull('full'));
    await expect(fetchFragments(job)).rejects.toBeInstanceOf(StorageFull);
  });

  it('tells speed and time left', async () => {
    const { progress, job } = setUp();
    await fetchFragments(job);
    const last = progress.at(-1)!;
    expect(last.speed).toBeGreaterThan(0);
    expect(last.left).toBe(0);
    expect(progress[0]).toMatchObject({ received: 0, total: TOTAL, left: null });
  });
});
