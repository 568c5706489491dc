// Registers the service worker. On a host that does not send the headers for threads the worker
// adds them, which takes one reload of the page.

const RELOADED = 'reloaded-for-threads';
/** Milliseconds that a worker gets to become ready: it fetches a few hundred kilobytes. */
const PATIENCE = 15_000;

/** Why there is no worker; null where there is one, or none is wanted. */
export type WorkerProblem = string | null;

/** Without a service worker the app works, but not without a network. */
export async function registerWorker(): Promise<WorkerProblem> {
  if (!('serviceWorker' in navigator) || import.meta.env.DEV) return null;
  try {
    const address = new URL('sw.js', document.baseURI);
    const registration = await navigator.serviceWorker.register(address);
    if (crossOriginIsolated || sessionStorage.getItem(RELOADED)) return null;
    await ready(registration);
    sessionStorage.setItem(RELOADED, 'yes');
    location.reload();
    // Nothing else should start on a page that is about to go.
    return await new Promise(() => {});
  } catch (error) {
    console.warn('no service worker', error);
    return error instanceof Error ? error.message : String(error);
  }
}

/** Waits until a worker is active. Throws if it was not installed: a file of its list is missing. */
export async function ready(
  registration: ServiceWorkerRegistration,
  patience = PATIENCE,
): Promise<void> {
  const coming = registration.installing ?? registration.waiting;
  if (registration.active || !coming) return;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const settled = new Promise<void>((resolve, reject) => {
    const look = () => {
      if (coming.state === 'activated') resolve();
      if (coming.state === 'redundant') {
        reject(new Error('the service worker could not fetch all of its files'));
      }
    };
    coming.addEventListener('statechange', look);
    timer = setTimeout(() => {
      reject(new Error(`the service worker was not ready after ${patience / 1000} s`));
    }, patience);
    look();
  });
  await settled.finally(() => clearTimeout(timer));
}
