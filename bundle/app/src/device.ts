// What this browser can do.

import type { Device } from './choose.ts';
import { hasMemory64 } from './engine.ts';

/** Bytes that the compat engine, and any engine without Memory64, can address. */
const ADDRESSABLE_32 = 4 * 2 ** 30;

/** What the browser tells of the device. */
export function thisDevice(): Device {
  const { deviceMemory, userAgentData } = navigator as Navigator & {
    deviceMemory?: number;
    userAgentData?: { mobile: boolean };
  };
  return {
    memory: deviceMemory ?? null,
    mobile: userAgentData?.mobile ?? /Android|iPhone|iPad|Mobile/.test(navigator.userAgent),
    addressable: hasMemory64() ? Infinity : ADDRESSABLE_32,
  };
}

/** What the app cannot do without, by the name of the sentence that says so. */
export type Lacking = 'noWasm' | 'noStorage';

/** What is missing here, or null. */
export function lacking(): Lacking | null {
  if (typeof WebAssembly === 'undefined') return 'noWasm';
  const storage = 'storage' in navigator && 'getDirectory' in navigator.storage;
  // Outside of a secure context there is no file system, no cache and no hashing.
  return storage && 'caches' in globalThis && 'subtle' in crypto ? null : 'noStorage';
}

/** Bytes that this origin may still store, or null where the browser does not tell. */
export async function freeStorage(): Promise<number | null> {
  const { quota, usage } = (await navigator.storage.estimate?.()) ?? {};
  return quota === undefined || usage === undefined ? null : Math.max(0, quota - usage);
}
