// The service worker: keeps the app itself, so that it starts without a network, and adds the
// headers that threads need where the host does not send them. Models are none of its business:
// the page keeps them in its own file system.

/** The global scope; the compiler's own `self` is that of a window. */
const worker = globalThis as unknown as ServiceWorkerGlobalScope;

interface Build {
  version: string;
  /** Subresource integrity of each file of the app, by path. */
  files: Record<string, string>;
}

// Replaced by vite/precache.ts.
declare const __PRECACHE__: Build;
const build = __PRECACHE__;

const PREFIX = 'pocketgpt-app-';
const CACHE = PREFIX + build.version;

worker.addEventListener('install', (event) => {
  const fill = async () => {
    const cache = await caches.open(CACHE);
    // Past the browser's own cache, and by their hashes: these must all be of one build. So the
    // hash of this script, which bundle.json lists, stands for the whole app.
    const requests = Object.entries(build.files).map(
      ([file, integrity]) => new Request(file, { cache: 'reload', integrity }),
    );
    await cache.addAll(requests);
  };
  event.waitUntil(fill());
});

worker.addEventListener('activate', (event) => {
  const take = async () => {
    const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE);
    await Promise.all(old.map((name) => caches.delete(name)));
    await worker.clients.claim();
  };
  event.waitUntil(take());
});

worker.addEventListener('fetch', (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== 'GET' || url.origin !== location.origin) return;
  const scope = new URL(worker.registration.scope).pathname;
  if (!url.pathname.startsWith(scope)) return;
  event.respondWith(answer(request, url.pathname.slice(scope.length)));
});

async function answer(request: Request, path: string): Promise<Response> {
  const cache = await caches.open(CACHE);
  const file = path === '' ? 'index.html' : path;
  const kept = Object.hasOwn(build.files, file) ? await cache.match(file) : undefined;
  return isolated(kept ?? (await fetch(request)));
}

/** The same answer with the headers that give the page SharedArrayBuffer. */
function isolated(response: Response): Response {
  // Opaque and failed answers cannot be copied.
  if (response.status === 0 || response.redirected) return response;
  const headers = new Headers(response.headers);
  headers.set('Cross-Origin-Opener-Policy', 'same-origin');
  headers.set('Cross-Origin-Embedder-Policy', 'require-corp');
  headers.set('Cross-Origin-Resource-Policy', 'same-origin');
  const { status, statusText } = response;
  const body = status === 204 || status === 304 ? null : response.body;
  return new Response(body, { status, statusText, headers });
}
