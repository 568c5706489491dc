// How fast this device is, as figures that can be copied.

import engines from 'virtual:engines';

import type { Engine } from './engine.ts';
import type { Installed } from './store.ts';

const RUNS = 3;
/** Tokens of the prompt and of the answer, as far as the context has room. */
const PROMPT_TOKENS = 128;
const ANSWER_TOKENS = 64;

/** One measurement, in the units that the names end with. */
export interface BenchmarkResult {
  format: 'pocketgpt-benchmark';
  version: 1;
  model: string;
  recipe: string;
  file_bytes: number;
  engine: string;
  threads: number;
  context_tokens: number;
  load_ms: number;
  prompt_tokens: number;
  answer_tokens: number;
  /** Of each run. */
  first_token_ms: number[];
  prompt_tokens_per_s: number[];
  answer_tokens_per_s: number[];
  cores: number;
  user_agent: string;
}

/** Measures prompt and answer a few times, after one run that is not counted. */
export async function benchmark(
  engine: Engine,
  { bundle, variant }: Installed,
  signal: AbortSignal,
): Promise<BenchmarkResult> {
  const room = Math.min(engine.info.context, bundle.contextLength);
  const { prompt, promptTokens: known } = bundle.selfTest;
  // The self-test's prompt is the one text whose number of tokens is known.
  const repeats = Math.max(1, Math.floor(Math.min(PROMPT_TOKENS, room / 4) / known.length));
  const answerTokens = Math.max(1, Math.min(ANSWER_TOKENS, room - 2 * repeats * known.length));
  const result: BenchmarkResult = {
    format: 'pocketgpt-benchmark',
    version: 1,
    model: bundle.name,
    recipe: variant.recipe,
    file_bytes: variant.size,
    engine: `wllama ${engines.version}${engine.info.compat ? ' compat' : ''}`,
    threads: engine.info.threads,
    context_tokens: engine.info.context,
    load_ms: Math.round(engine.info.loadTime),
    prompt_tokens: 0,
    answer_tokens: answerTokens,
    first_token_ms: [],
    prompt_tokens_per_s: [],
    answer_tokens_per_s: [],
    cores: navigator.hardwareConcurrency,
    user_agent: navigator.userAgent,
  };
  for (let run = 0; run <= RUNS; run++) {
    const { figures } = await engine.generate(
      { text: prompt.repeat(repeats) },
      {
        temperature: 0,
        topK: 1,
        topP: 1,
        repetitionPenalty: 1,
        maxNewTokens: answerTokens,
        fresh: true,
        ignoreEnd: true,
        signal,
      },
    );
    signal.throwIfAborted();
    result.prompt_tokens = figures.promptTokens;
    if (run === 0) continue;
    result.first_token_ms.push(rounded(figures.firstToken));
    result.prompt_tokens_per_s.push(rounded(figures.promptSpeed));
    result.answer_tokens_per_s.push(rounded(figures.speedAverage));
  }
  return result;
}

function rounded(value: number | null): number {
  return value === null ? 0 : Math.round(value * 100) / 100;
}
