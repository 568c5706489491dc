// Makes a bundle of small pieces out of a real one: what a large model looks like, in seconds. A
// second variant differs from the first in one byte and so shares all pieces but one; a third one
// has a chat template.

import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const sha256 = (data) => createHash('sha256').update(data).digest('hex');

/** Name of the variant that is nearly the first one. */
export const TWIN = 'Q8_TWIN';
/** Name of the variant with a chat template. */
export const CHAT = 'Q8_CHAT';

const TEMPLATE =
  '{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:';

/**
 * Writes `target` with the smallest variant of `source` in about `count` pieces, and the other two.
 * Files are named by SHA-256 in place of BLAKE3, which Node lacks; the app cannot tell.
 */
export function recut(source, target, count = 24) {
  const bundle = JSON.parse(readFileSync(join(source, 'bundle.json'), 'utf8'));
  const variant = bundle.variants[0];
  const manifest = JSON.parse(readFileSync(join(source, variant.manifest), 'utf8'));
  const pieces = manifest.fragments.map(({ file }) => readFileSync(join(source, 'model', file)));
  const whole = Buffer.concat(pieces);
  const other = Buffer.from(whole);
  renameModel(other);
  mkdirSync(join(target, 'model'), { recursive: true });
  const files = new Map();
  const put = (path, bytes) => {
    writeFileSync(join(target, path), bytes);
    files.set(path, { path, size: bytes.length, sha256: sha256(bytes), blake3: sha256(bytes) });
  };
  const expected = bundle.self_test.expected.find(({ recipe }) => recipe === variant.recipe);
  const step = Math.ceil(whole.length / count);
  bundle.variants = [
    [variant.recipe, whole],
    [TWIN, other],
    [CHAT, withTemplate(whole)],
  ].map(([recipe, bytes]) => {
    const fragments = [];
    for (let offset = 0; offset < bytes.length; offset += step) {
      const piece = bytes.subarray(offset, offset + step);
      const digest = sha256(piece);
      const file = `${digest}.dat`;
      put(`model/${file}`, piece);
      const size = piece.length;
      fragments.push({ id: fragments.length, file, offset, size, sha256: digest, blake3: digest });
    }
    const [digest, path] = [sha256(bytes), `model/${recipe}.manifest.json`];
    const file = { name: 'model.gguf', size: bytes.length, sha256: digest, blake3: digest };
    put(path, JSON.stringify({ ...manifest, file, fragments }));
    const size = bytes.length;
    return { ...variant, recipe, manifest: path, size, sha256: digest, blake3: digest };
  });
  bundle.self_test.expected = bundle.variants.map(({ recipe }) => ({ ...expected, recipe }));
  bundle.files = [...files.values()];
  writeFileSync(join(target, 'bundle.json'), JSON.stringify(bundle));
}

/** Changes the last letter of `general.name`, which no tensor depends on. */
function renameModel(gguf) {
  const key = Buffer.from('general.name');
  const at = gguf.indexOf(key) + key.length;
  // A value type of 4 bytes, a length of 8, the text.
  const length = Number(gguf.readBigUInt64LE(at + 4));
  gguf[at + 12 + length - 1] ^= 1;
}

/** The same model with a chat template, as the first of its metadata. */
function withTemplate(gguf) {
  const HEADER = 24; // Magic, version, number of tensors, number of metadata.
  const STRING = 8; // The type of a value.
  const ALIGNMENT = 32;
  const key = Buffer.from('tokenizer.chat_template');
  const numbers = 8 + 4 + 8;
  // What is put in has to keep the tensors where they are aligned.
  const room = Math.ceil((numbers + key.length + TEMPLATE.length) / ALIGNMENT) * ALIGNMENT;
  const text = Buffer.from(TEMPLATE.padStart(room - numbers - key.length));
  const entry = Buffer.alloc(room);
  let at = entry.writeBigUInt64LE(BigInt(key.length));
  at += key.copy(entry, at);
  at = entry.writeUInt32LE(STRING, at);
  at = entry.writeBigUInt64LE(BigInt(text.length), at);
  text.copy(entry, at);
  const header = Buffer.from(gguf.subarray(0, HEADER));
  header.writeBigUInt64LE(header.readBigUInt64LE(16) + 1n, 16);
  return Buffer.concat([header, entry, gguf.subarray(HEADER)]);
}
