// When to give the model's memory back.

/** Minutes without use, or null for never. */
export type IdleMinutes = 1 | 5 | 10 | null;

/** What to start with: the less memory a device has, the sooner it is given back. */
export function defaultIdleMinutes(memory: number): IdleMinutes {
  return memory <= 4 ? 1 : memory <= 8 ? 5 : 10;
}

/** Timers, as the browser has them. */
export interface Timers {
  set(callback: () => void, milliseconds: number): number;
  clear(id: number): void;
}

const browserTimers: Timers = {
  set: (callback, milliseconds) => setTimeout(callback, milliseconds) as unknown as number,
  clear: (id) => clearTimeout(id),
};

/** Calls `onIdle` once nothing was used for a while. */
export class IdleTimer {
  readonly #onIdle: () => void;
  readonly #timers: Timers;
  #minutes: IdleMinutes;
  #timer: number | null = null;
  #held = 0;

  constructor(minutes: IdleMinutes, onIdle: () => void, timers: Timers = browserTimers) {
    this.#minutes = minutes;
    this.#onIdle = onIdle;
    this.#timers = timers;
  }

  set minutes(minutes: IdleMinutes) {
    this.#minutes = minutes;
    this.touch();
  }

  /** It was used: wait anew. */
  touch(): void {
    this.stop();
    if (this.#minutes === null || this.#held > 0) return;
    this.#timer = this.#timers.set(this.#onIdle, this.#minutes * 60_000);
  }

  /** Never idle while `work` goes on. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    this.#held++;
    this.stop();
    try {
      return await work();
    } finally {
      this.#held--;
      this.touch();
    }
  }

  /** Waits no longer; the next touch starts again. */
  stop(): void {
    if (this.#timer !== null) this.#timers.clear(this.#timer);
    this.#timer = null;
  }
}

/**
 * Calls `release` when the browser asks for memory: it freezes the page, or keeps it in memory
 * after the user left it.
 */
export function onMemoryPressure(release: () => void): void {
  document.addEventListener('freeze', release);
  window.addEventListener('pagehide', (event) => {
    if (event.persisted) release();
  });
}
