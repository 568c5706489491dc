// A small server of a bundle, whose answers a test can spoil: what a bad network and a bad host do.

import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { join, normalize } from "node:path";

const TYPES = {
  html: "text/html; charset=utf-8",
  js: "text/javascript",
  css: "text/css",
  json: "application/json",
  svg: "image/svg+xml",
  png: "image/png",
  webmanifest: "application/manifest+json",
};

/**
 * Serves `bundle`, with the app from `app` under /app/. `headers` off is a static host that cannot
 * send the ones that threads need.
 */
export async function serve({ bundle, app, headers = true }) {
  const faults = {
    /** Called with each path; true sends the file with one byte changed. */
    damage: () => false,
    /** Called with each path; a number cuts the connection after so many bytes. */
    cut: () => null,
    /** Called with each path; milliseconds before each 64 KiB. */
    delay: () => 0,
  };
  /** What was asked for: path and range. */
  const requests = [];
  const sockets = new Set();

  const server = createServer(async (request, response) => {
    const path = decodeURIComponent(
      new URL(request.url, "http://localhost").pathname,
    );
    requests.push({ path, range: request.headers.range ?? null });
    const file = locate(path, bundle, app);
    const size = file && sizeOf(file);
    if (headers) {
      response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
      response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
      response.setHeader("Cross-Origin-Resource-Policy", "same-origin");
    }
    if (size === null || size === undefined) {
      response.writeHead(404).end();
      return;
    }
    const range = /^bytes=(\d+)-$/.exec(request.headers.range ?? "");
    const start = range ? Number(range[1]) : 0;
    response.writeHead(range ? 206 : 200, {
      "Content-Type":
        TYPES[file.split(".").pop()] ?? "application/octet-stream",
      "Content-Length": size - start,
      ...(range
        ? { "Content-Range": `bytes ${start}-${size - 1}/${size}` }
        : {}),
    });
    const cut = faults.cut(path, request.headers.range);
    let position = start;
    for await (const chunk of createReadStream(file, {
      start,
      highWaterMark: 64 << 10,
    })) {
      const delay = faults.delay(path);
      if (delay > 0) await new Promise((resolve) => setTimeout(resolve, delay));
      if (response.destroyed) return;
      if (position === start && faults.damage(path)) chunk[0] ^= 1;
      if (cut !== null && position + chunk.length > cut) {
        response.write(chunk.subarray(0, Math.max(0, cut - position)), () =>
          response.destroy(),
        );
        return;
      }
      position += chunk.length;
      if (!response.write(chunk))
        await new Promise((resolve) => response.once("drain", resolve));
    }
    response.end();
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}/app/`,
    faults,
    requests,
    /** From now on nobody answers. */
    stop() {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

function locate(path, bundle, app) {
  const inside = normalize(path);
  if (inside.includes("..")) return null;
  if (inside.startsWith("/app/"))
    return join(app, inside.slice(4) === "/" ? "index.html" : inside.slice(4));
  return join(bundle, inside);
}

function sizeOf(file) {
  try {
    const entry = statSync(file);
    return entry.isFile() ? entry.size : null;
  } catch {
    return null;
  }
}
