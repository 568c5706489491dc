// Ed25519 signatures (RFC 8032), checked as `verify_strict` of ed25519-dalek does in the commands:
// browsers differ in what they accept, and some lack it. Both are held to
// bundle/tests/golden/signatures.json.

import { Point } from '@noble/ed25519';

/**
 * Whether `signature`, of 64 bytes, is by `key`, of 32, over `message`: S B = R + k A without the
 * cofactor, each number and point in its one spelling, neither R nor the key of small order.
 */
export async function isSignedBy(
  key: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array,
): Promise<boolean> {
  const [r, s] = [signature.subarray(0, 32), littleEndian(signature.subarray(32))];
  const { n: order } = Point.CURVE();
  const points = [key, r].map(decode);
  const [publicPoint, commitment] = points;
  if (!publicPoint || !commitment || s >= order) return false;
  if (publicPoint.isSmallOrder() || commitment.isSmallOrder()) return false;
  const challenge = littleEndian(await sha512(r, key, message)) % order;
  const expected = times(Point.BASE, s).subtract(times(publicPoint, challenge));
  return expected.equals(commitment);
}

/** Null for bytes that are no point, or another spelling of one. */
function decode(bytes: Uint8Array): Point | null {
  try {
    return Point.fromBytes(bytes);
  } catch {
    return null;
  }
}

/** Nothing here is secret, so it need not take the same time for all numbers. */
function times(point: Point, number: bigint): Point {
  return point.multiply(number, false);
}

function littleEndian(bytes: Uint8Array): bigint {
  return bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
}

async function sha512(...parts: Uint8Array[]): Promise<Uint8Array> {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return new Uint8Array(await crypto.subtle.digest('SHA-512', all));
}
