// The worker that writes to the origin-private file system.

/** Replace `folder/file` by these bytes. */
export interface WriteRequest {
  id: number;
  folder: string;
  file: string;
  bytes: Uint8Array<ArrayBuffer>;
}

/** It is on disk, unless `error` names what went wrong. */
export interface WriteReply {
  id: number;
  error?: string;
  message: string;
}

onmessage = async ({ data }: MessageEvent<WriteRequest>) => {
  let reply: WriteReply = { id: data.id, message: '' };
  try {
    await write(data);
  } catch (error) {
    const { name, message } = error instanceof Error ? error : new Error(String(error));
    reply = { id: data.id, error: name, message };
  }
  postMessage(reply);
};

async function write({ folder, file, bytes }: WriteRequest): Promise<void> {
  const root = await navigator.storage.getDirectory();
  const directory = await root.getDirectoryHandle(folder, { create: true });
  const handle = await directory.getFileHandle(file, { create: true });
  const access = await handle.createSyncAccessHandle();
  let written = 0;
  try {
    access.truncate(0);
    while (written < bytes.length) {
      const count = access.write(bytes.subarray(written), { at: written });
      if (count === 0) throw new DOMException('no space is left', 'QuotaExceededError');
      written += count;
    }
    access.flush();
  } finally {
    access.close();
    // A part of a file is of no use, and the room may be what is missing.
    if (written < bytes.length) await directory.removeEntry(file);
  }
}
