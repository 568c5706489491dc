// Fetches the fragments of a model: several at a time, each verified before it is stored, what is
// here already left out, what is damaged fetched again, a cut connection continued where it broke.

import { sha256 } from './check.ts';
import type { Fragment } from './bundle.ts';
import type { FragmentStore } from './store.ts';
import { readSound } from './stored.ts';

/** Connections at a time. */
const PARALLEL = 4;
/** Tries of one fragment in a row without a single new byte. */
const MAX_TRIES = 4;
/** Times that a fragment may arrive damaged. */
const MAX_DAMAGED = 3;
/** Milliseconds before the second try; each further one waits twice as long. */
const FIRST_WAIT = 500;
/** Milliseconds over which the speed is taken. */
const SPEED_WINDOW = 5000;

/** How far a download is. */
export interface Progress {
  /** Verified and stored, or on the way, in bytes. */
  received: number;
  total: number;
  /** Bytes per second over the last seconds. */
  speed: number;
  /** Seconds, or null as long as nobody knows. */
  left: number | null;
}

/** Why a fragment did not come. */
export type FetchProblem = 'connection' | 'missing' | 'damaged';

/** A fragment did not come, after several tries. */
export class FetchFailed extends Error {
  override name = 'FetchFailed';
  constructor(
    readonly problem: FetchProblem,
    readonly file: string,
    detail: string,
  ) {
    super(`${file}: ${detail}`);
  }
}

/** What the fetcher takes from its surroundings. */
export interface FetchJob {
  fragments: readonly Fragment[];
  store: FragmentStore;
  /** The address of a fragment's file. */
  url: (file: string) => string;
  signal: AbortSignal;
  onProgress: (progress: Progress) => void;
  fetch?: typeof fetch;
  wait?: (milliseconds: number, signal: AbortSignal) => Promise<void>;
  now?: () => number;
}

/**
 * Brings all fragments into the store. Resumes by itself: what the store has is verified and not
 * fetched again. Throws `FetchFailed`, `StorageFull`, or the signal's reason.
 */
export async function fetchFragments(job: FetchJob): Promise<void> {
  const unique = [...new Map(job.fragments.map((one) => [one.file, one])).values()];
  const meter = new Meter(unique, job);
  // One failure ends the others, too.
  const failure = new AbortController();
  const signal = AbortSignal.any([job.signal, failure.signal]);
  const queue = unique.values();
  const workers = Array.from({ length: Math.min(PARALLEL, unique.length) }, async () => {
    for (const fragment of queue) {
      await bring(fragment, { ...job, signal }, meter);
    }
  });
  try {
    await Promise.all(workers);
  } catch (error) {
    failure.abort(error);
    await Promise.allSettled(workers);
    throw job.signal.aborted ? job.signal.reason : error;
  }
}

async function bring(fragment: Fragment, job: FetchJob, meter: Meter): Promise<void> {
  job.signal.throwIfAborted();
  if (await readSound(fragment, job.store)) {
    meter.found(fragment);
    return;
  }
  for (let damaged = 0; damaged < MAX_DAMAGED; damaged++) {
    const bytes = await download(fragment, job, meter);
    if ((await sha256(bytes)) === fragment.sha256) {
      job.signal.throwIfAborted();
      await job.store.write(fragment.file, bytes);
      return;
    }
    meter.reset(fragment);
  }
  throw new FetchFailed('damaged', fragment.file, `damaged on the server (${MAX_DAMAGED} tries)`);
}

/** All bytes of a fragment, not yet verified. */
async function download(
  fragment: Fragment,
  job: FetchJob,
  meter: Meter,
): Promise<Uint8Array<ArrayBuffer>> {
  const { signal, wait = pause } = job;
  const bytes = new Uint8Array(fragment.size);
  let filled = 0;
  let problem = new FetchFailed('connection', fragment.file, 'no answer');
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    if (tries > 0) await wait(FIRST_WAIT * 2 ** (tries - 1), signal);
    const before = filled;
    try {
      for await (const { chunk, start } of request(fragment, filled, job)) {
        if (start + chunk.length > bytes.length) break; // Too long: the hash will not match.
        bytes.set(chunk, start);
        filled = start + chunk.length;
        meter.received(fragment, filled);
      }
      if (filled === bytes.length) return bytes;
      problem = new FetchFailed('connection', fragment.file, 'the connection was cut');
    } catch (error) {
      signal.throwIfAborted();
      problem =
        error instanceof FetchFailed
          ? error
          : new FetchFailed('connection', fragment.file, String(error));
    }
    if (filled > before) tries = 0;
  }
  throw problem;
}

/** The pieces of one answer; `start` is 0 where the server cannot continue from `from`. */
async function* request({ file }: Fragment, from: number, job: FetchJob) {
  const { url, signal, fetch: get = fetch } = job;
  const response = await get(url(file), {
    signal,
    // A damaged answer must not come back out of the browser's cache.
    cache: 'no-store',
    ...(from > 0 ? { headers: { Range: `bytes=${from}-` } } : {}),
  });
  if (!response.ok || !response.body) {
    const problem = response.status === 404 ? 'missing' : 'connection';
    throw new FetchFailed(problem, file, `the server answers ${response.status}`);
  }
  let start = response.status === 206 ? from : 0;
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield { chunk: value, start };
      start += value.length;
    }
  } finally {
    // Also after a break: nobody wants the rest.
    await reader.cancel().catch(() => {});
  }
}

/** Counts bytes and takes the speed. */
class Meter {
  readonly #bytes = new Map<string, number>();
  readonly #samples: { time: number; fetched: number }[] = [];
  readonly #total: number;
  readonly #job: FetchJob;
  readonly #now: () => number;
  #fetched = 0;

  constructor(unique: readonly Fragment[], job: FetchJob) {
    this.#total = unique.reduce((sum, { size }) => sum + size, 0);
    this.#job = job;
    this.#now = job.now ?? (() => performance.now());
    this.#report();
  }

  found({ file, size }: Fragment): void {
    this.#bytes.set(file, size);
    this.#report();
  }

  received({ file }: Fragment, filled: number): void {
    this.#fetched += Math.max(0, filled - (this.#bytes.get(file) ?? 0));
    this.#bytes.set(file, filled);
    this.#report();
  }

  reset({ file }: Fragment): void {
    this.#bytes.delete(file);
    this.#report();
  }

  #report(): void {
    const time = this.#now();
    this.#samples.push({ time, fetched: this.#fetched });
    while (this.#samples.length > 2 && this.#samples[0]!.time < time - SPEED_WINDOW) {
      this.#samples.shift();
    }
    const first = this.#samples[0]!;
    const seconds = (time - first.time) / 1000;
    const speed = seconds > 0 ? (this.#fetched - first.fetched) / seconds : 0;
    const received = [...this.#bytes.values()].reduce((sum, bytes) => sum + bytes, 0);
    const left = speed > 0 ? (this.#total - received) / speed : null;
    this.#job.onProgress({ received, total: this.#total, speed, left });
  }
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
