// Appearance, how tokens are chosen, threads, memory.

import type { Generation } from '../bundle.ts';
import type { IdleMinutes } from '../idle.ts';
import { LIMITS } from '../settings.ts';
import type { Settings } from '../settings.ts';
import { useApp, useValue } from './context.ts';
import { Heading } from './parts.tsx';

const THEMES = ['system', 'light', 'dark'] as const;
const IDLE: readonly IdleMinutes[] = [1, 5, 10, null];

/** The page of settings. */
export function SettingsPage() {
  const app = useApp();
  const { texts } = app.language;
  const settings = useValue(app.settings);
  const cores = navigator.hardwareConcurrency || 1;
  return (
    <>
      <Heading>{texts.settings}</Heading>
      <label class="field">
        {texts.theme}
        <select
          value={settings.theme}
          onChange={(event) =>
            void app.change({ theme: event.currentTarget.value as Settings['theme'] })
          }
        >
          {THEMES.map((theme) => (
            <option key={theme} value={theme}>
              {texts.themes[theme]}
            </option>
          ))}
        </select>
      </label>
      <Sampling />
      <label class="field">
        {texts.specials}
        <select
          value={String(settings.parseSpecial)}
          onChange={(event) =>
            void app.change({ parseSpecial: event.currentTarget.value === 'true' })
          }
        >
          <option value="false">{texts.specialsAsText}</option>
          <option value="true">{texts.specialsAsTokens}</option>
        </select>
        <small>{texts.specialsHint}</small>
      </label>
      <label class="field">
        {texts.idle}
        <select
          value={String(settings.idle)}
          onChange={(event) => void app.change({ idle: idleOf(event.currentTarget.value) })}
        >
          <option value="auto">{texts.automatic}</option>
          {IDLE.map((minutes) => (
            <option key={minutes} value={String(minutes)}>
              {texts.idleAfter(minutes)}
            </option>
          ))}
        </select>
      </label>
      {crossOriginIsolated && (
        <label class="field">
          {texts.threads}
          <select
            value={String(settings.threads)}
            onChange={(event) => {
              const { value } = event.currentTarget;
              void app.change({ threads: value === 'null' ? null : Number(value) });
            }}
          >
            <option value="null">{texts.automatic}</option>
            {Array.from({ length: Math.min(cores, 16) }, (_, i) => (
              <option key={i} value={String(i + 1)}>
                {i + 1}
              </option>
            ))}
          </select>
          <small>{texts.threadsHint}</small>
        </label>
      )}
    </>
  );
}

function Sampling() {
  const app = useApp();
  const { texts } = app.language;
  const { generation } = useValue(app.settings);
  const { model } = useValue(app.session.state);
  if (!model) return null;
  const values = app.generation(model.bundle);
  const change = (part: Partial<Generation>) =>
    void app.change({ generation: { ...generation, ...part } });
  return (
    <>
      {(Object.keys(LIMITS) as (keyof Generation)[]).map((key) => {
        const { min, max, step } = LIMITS[key];
        return (
          <label key={key} class="field">
            {texts[key]}
            <input
              type="number"
              inputMode="decimal"
              min={min}
              max={max}
              step={step}
              value={values[key]}
              onChange={(event) => {
                const value = event.currentTarget.valueAsNumber;
                if (event.currentTarget.validity.valid && !Number.isNaN(value)) {
                  change({ [key]: value });
                }
              }}
            />
          </label>
        );
      })}
      <p class="actions">
        <button type="button" onClick={() => change({ temperature: 0, repetitionPenalty: 1 })}>
          {texts.greedy}
        </button>
        <button type="button" class="quiet" onClick={() => void app.change({ generation: {} })}>
          {texts.proposal}
        </button>
      </p>
    </>
  );
}

function idleOf(value: string): Settings['idle'] {
  if (value === 'auto') return 'auto';
  return value === 'null' ? null : (Number(value) as IdleMinutes);
}
