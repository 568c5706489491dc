import { expect, it } from 'vitest';

import { ready } from '../src/isolation.ts';

/** A registration whose worker is in `state`, and what moves it on. */
function registration(state: string) {
  const worker = Object.assign(new EventTarget(), { state });
  const become = (next: string) => {
    worker.state = next;
    worker.dispatchEvent(new Event('statechange'));
  };
  const value = { installing: worker, waiting: null, active: null };
  return { value: value as unknown as ServiceWorkerRegistration, become };
}

it('waits for a worker to become active', async () => {
  const { value, become } = registration('installing');
  const waiting = ready(value);
  become('installed');
  become('activated');
  await waiting;
  await ready({ active: {} } as ServiceWorkerRegistration);
});

it('does not wait for a worker that failed', async () => {
  const { value, become } = registration('installing');
  const waiting = ready(value);
  become('redundant');
  await expect(waiting).rejects.toThrow('could not fetch all of its files');
});

it('does not wait for ever', async () => {
  await expect(ready(registration('installing').value, 10)).rejects.toThrow('not ready after');
});
