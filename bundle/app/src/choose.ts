// Which variant fits this device.

import type { Variant } from './bundle.ts';

const GIB = 2 ** 30;
/** Share of a device's memory that one page may take before the browser ends it. */
const USABLE = 0.5;

/** What the browser tells of the device. */
export interface Device {
  /** Memory in GiB; browsers round it, cap it, or do not say. */
  memory: number | null;
  mobile: boolean;
  /** Bytes that a WebAssembly engine can address here. */
  addressable: number;
}

/** Memory in GiB, or a careful guess where the browser does not say. */
export function deviceMemory(device: Device): number {
  return device.memory ?? (device.mobile ? 4 : 8);
}

/**
 * The variant to offer first: of those that fit, the largest with at most 4 bits a weight on a
 * device with at most 4 GiB, at most 8 bits with at most 8 GiB, at most 16 above. Where all that
 * fit have more bits, the smallest; where none fits, the smallest of all.
 *
 * `bundle plan` has the same rule (`proposed` in bundle/src/plan.rs), and both are held to
 * bundle/tests/golden/proposals.json.
 */
export function chooseVariant(variants: readonly Variant[], device: Device): Variant | undefined {
  const memory = deviceMemory(device);
  const bits = memory <= 4 ? 4 : memory <= 8 ? 8 : 16;
  const bySize = [...variants].sort((a, b) => b.memory.total - a.memory.total);
  const fitting = bySize.filter((variant) => fits(variant, device));
  return (
    fitting.find((variant) => recipeBits(variant.recipe) <= bits) ?? fitting.at(-1) ?? bySize.at(-1)
  );
}

/** Whether a variant runs within the part of memory that a page may take. */
export function fits(variant: Variant, device: Device): boolean {
  const room = Math.min(deviceMemory(device) * GIB * USABLE, device.addressable);
  return variant.memory.total <= room;
}

/** Bits of a weight in the recipe's main format, as its name says: 4 for `Q4_K_M`. */
export function recipeBits(recipe: string): number {
  const digits = /^[A-Z]*?(\d+)/.exec(recipe)?.[1];
  return digits === undefined ? 32 : Number(digits);
}

/** Threads that speed the engine up: all of a few cores, about half of many. */
export function defaultThreads(cores: number, isolated: boolean): number {
  if (!isolated) return 1;
  return cores <= 4 ? Math.max(1, cores) : Math.min(8, Math.ceil(cores / 2));
}
