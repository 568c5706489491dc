// Registers the service worker. On a host that does not send the headers for threads the worker
// adds them, which takes one reload of the page.

const RELOADED = 'reloaded-for-threads';

/** Without a service worker the app works, but not without a network. */
export async function registerWorker(): Promise<void> {
  if (!('serviceWorker' in navigator) || import.meta.env.DEV) return;
  try {
    await navigator.serviceWorker.register(new URL('sw.js', document.baseURI));
    if (crossOriginIsolated || sessionStorage.getItem(RELOADED)) return;
    await navigator.serviceWorker.ready;
    sessionStorage.setItem(RELOADED, 'yes');
    location.reload();
    // Nothing else should start on a page that is about to go.
    await new Promise(() => {});
  } catch (error) {
    console.warn('no service worker', error);
  }
}
