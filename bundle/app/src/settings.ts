// What the user chose, kept in this browser.

import type { Generation } from './bundle.ts';
import { Observable } from './observable.ts';
import type { IdleMinutes } from './idle.ts';

/** Where the settings are kept. */
export const SETTINGS_KEY = 'settings';

/** Null is "as the app or the bundle proposes". */
export interface Settings {
  theme: 'system' | 'light' | 'dark';
  threads: number | null;
  idle: IdleMinutes | 'auto';
  /** Only what differs from the bundle's proposal. */
  generation: Partial<Generation>;
  /** Whether special tokens that a message spells count as such; otherwise they stay text. */
  parseSpecial: boolean;
  /** What the model is told at the beginning of a new conversation. */
  system: string;
  /** SHA-256 of the GGUF that was used last. */
  model: string | null;
}

const DEFAULTS: Settings = {
  theme: 'system',
  threads: null,
  idle: 'auto',
  generation: {},
  parseSpecial: false,
  system: '',
  model: null,
};

/** Range of each figure of `Generation`, and the step of its control. */
export const LIMITS: Record<keyof Generation, { min: number; max: number; step: number }> = {
  temperature: { min: 0, max: 2, step: 0.05 },
  topK: { min: 0, max: 1000, step: 1 },
  topP: { min: 0, max: 1, step: 0.01 },
  repetitionPenalty: { min: 1, max: 2, step: 0.01 },
  maxNewTokens: { min: 1, max: 4096, step: 1 },
};

/** The settings, saved on every change. */
export function loadSettings(storage: Storage): Observable<Settings> {
  const settings = new Observable<Settings>(savedSettings(storage));
  settings.subscribe((value) => {
    const text = JSON.stringify(value);
    // Writing what is there already would tell the other tabs, and they this one.
    if (storage.getItem(SETTINGS_KEY) !== text) storage.setItem(SETTINGS_KEY, text);
  });
  return settings;
}

/** The settings as they are kept now. */
export function savedSettings(storage: Storage): Settings {
  return parse(storage.getItem(SETTINGS_KEY));
}

/** What is not valid any more is forgotten. */
function parse(text: string | null): Settings {
  let saved: Partial<Settings>;
  try {
    saved = { ...(JSON.parse(text ?? '{}') as Partial<Settings>) };
  } catch {
    return DEFAULTS;
  }
  const { theme, threads, idle, parseSpecial, system, model } = saved;
  const generation: Partial<Generation> = {};
  for (const [key, { min, max }] of Object.entries(LIMITS)) {
    const value = saved.generation?.[key as keyof Generation];
    if (typeof value === 'number' && value >= min && value <= max) {
      generation[key as keyof Generation] = value;
    }
  }
  return {
    theme: theme === 'light' || theme === 'dark' ? theme : 'system',
    threads: Number.isInteger(threads) && threads! >= 1 && threads! <= 64 ? threads! : null,
    idle: idle === null || idle === 1 || idle === 5 || idle === 10 ? idle : 'auto',
    generation,
    parseSpecial: parseSpecial === true,
    system: typeof system === 'string' ? system : '',
    model: typeof model === 'string' ? model : null,
  };
}
