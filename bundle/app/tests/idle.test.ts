import { beforeEach, describe, expect, it, vi } from 'vitest';

import { IdleTimer, defaultIdleMinutes } from '../src/idle.ts';

const MINUTE = 60_000;

describe('the idle timer', () => {
  const onIdle = vi.fn();
  beforeEach(() => {
    vi.useFakeTimers();
    onIdle.mockReset();
  });

  it('goes off once after the time without use', () => {
    const timer = new IdleTimer(5, onIdle);
    vi.advanceTimersByTime(60 * MINUTE);
    expect(onIdle).not.toHaveBeenCalled(); // Nothing was used yet.
    timer.touch();
    vi.advanceTimersByTime(4 * MINUTE);
    timer.touch();
    vi.advanceTimersByTime(4 * MINUTE);
    expect(onIdle).not.toHaveBeenCalled();
    vi.advanceTimersByTime(60 * MINUTE);
    expect(onIdle).toHaveBeenCalledTimes(1);
  });

  it('does not go off while work goes on', async () => {
    const timer = new IdleTimer(1, onIdle);
    let finish = () => {};
    const work = timer.during(() => new Promise<void>((resolve) => (finish = resolve)));
    timer.touch();
    vi.advanceTimersByTime(10 * MINUTE);
    expect(onIdle).not.toHaveBeenCalled();
    finish();
    await work;
    vi.advanceTimersByTime(MINUTE);
    expect(onIdle).toHaveBeenCalledTimes(1);
  });

  it('waits anew after work that failed', async () => {
    const timer = new IdleTimer(1, onIdle);
    await expect(timer.during(() => Promise.reject(new Error('x')))).rejects.toThrow('x');
    vi.advanceTimersByTime(MINUTE);
    expect(onIdle).toHaveBeenCalledTimes(1);
  });

  it('never goes off when it is told so', () => {
    const timer = new IdleTimer(1, onIdle);
    timer.touch();
    timer.minutes = null;
    vi.advanceTimersByTime(1000 * MINUTE);
    expect(onIdle).not.toHaveBeenCalled();
  });
});

it('the less memory, the sooner', () => {
  expect([2, 4, 8, 16].map(defaultIdleMinutes)).toEqual([1, 1, 5, 10]);
});
