// The model as it runs: llama.cpp as WebAssembly (wllama), one model at a time.

import { Wllama } from '@wllama/wllama/esm/index.js';
import engines from 'virtual:engines';

import type { Generation } from './bundle.ts';
import type { Message } from './conversations.ts';
import { engineFile } from './engine_files.ts';

/** Milliseconds over which the speed "now" is taken. */
const NOW_WINDOW = 1000;
/** Tries to make a text fit, each without a third of what is left: a 25th stays in the end. */
const MAX_SHORTENINGS = 8;
/** Most of the context that is kept free for an answer, as its share. */
const ANSWER_SHARE = 1 / 4;
/** Tokens of a prompt that are computed at once: stopping waits for them, and progress comes after
 *  each. In WebAssembly larger batches are not faster. */
const BATCH = 64;
/** Alternatives that are told for each token, to see whether two are nearly as likely. */
const ALTERNATIVES = 5;

/** How to load. */
export interface LoadOptions {
  threads: number;
  /** Tokens of context. */
  context: number;
}

/** What a loaded model is. */
export interface EngineInfo {
  threads: number;
  context: number;
  /** Milliseconds from the call to the model being ready. */
  loadTime: number;
  /** With the engine for browsers that lack Memory64 or JSPI. */
  compat: boolean;
  /** The model's own template for messages, if it has one. */
  chatTemplate: string | null;
}

/** What to continue. */
export type Prompt =
  | { text: string }
  | {
      messages: readonly Message[];
      /** Before the first message; empty for nothing. */
      system: string;
    };

/** How to continue it. */
export interface GenerateOptions extends Generation {
  signal?: AbortSignal;
  /** The whole text so far, and the figures so far. */
  onText?: (text: string, figures: Figures) => void;
  /** Compute the prompt anew, even if the engine has it from the last time. */
  fresh?: boolean;
  /** Also the ids of the tokens. llama.cpp fails where one of them is a part of a character. */
  withIds?: boolean;
  /** Go on after an end-of-text token; for benchmarks. */
  ignoreEnd?: boolean;
}

/** The likeliest tokens at a position of an answer, with their log-probabilities. */
export type Alternatives = readonly { id: number; logprob: number }[];

/** How fast it was. */
export interface Figures {
  /** Tokens of the prompt that are read and all that are to be read, while it is being read. */
  promptProgress: { read: number; all: number } | null;
  /** Milliseconds to the first token. */
  firstToken: number | null;
  /** Tokens that came. */
  tokens: number;
  /** Tokens per second over the last second. */
  speedNow: number | null;
  /** Tokens per second after the first token. */
  speedAverage: number | null;
  /** Tokens of the prompt that were computed, and how many a second. */
  promptTokens: number;
  promptSpeed: number | null;
  /** Tokens of context that are used. */
  contextUsed: number;
}

/** What came. */
export interface Answer {
  text: string;
  /** Their ids, if they were asked for; null for each that is not told. */
  tokens: (number | null)[];
  /** What else each could have been; null where it is not told. */
  alternatives: (Alternatives | null)[];
  /** What ended it: the model, its greatest length or the context, or the user. */
  end: 'model' | 'length' | 'stopped';
  figures: Figures;
  /** The oldest part was left out, because the text is longer than the context. */
  shortened: boolean;
}

/** The chunks of llama.cpp's server, as far as they are used. */
interface Chunk {
  choices?: {
    text?: string;
    delta?: { content?: string | null };
    finish_reason?: string | null;
    logprobs?: { content?: { id: number; top_logprobs?: Alternatives }[] | null } | null;
  }[];
  timings?: { cache_n: number; prompt_n: number; prompt_per_second: number; predicted_n: number };
  prompt_progress?: { total: number; cache: number; processed: number };
}

/** What is to be answered does not fit into the context, and nothing of it can be left out. */
export class TooLong extends Error {
  constructor(
    /** Its tokens and those that fit, where the engine says it. */
    readonly tokens: number | null,
    readonly context: number,
  ) {
    super(`${tokens ?? 'too many'} tokens, the context has ${context}`);
  }
}

/** The prompt fits and leaves too little room for an answer. */
class Crowded extends Error {}

/** A loaded model. */
export class Engine {
  readonly info: EngineInfo;
  readonly #wllama: Wllama;
  readonly #urls: readonly string[];

  private constructor(wllama: Wllama, urls: readonly string[], info: EngineInfo) {
    this.#wllama = wllama;
    this.#urls = urls;
    this.info = info;
  }

  /** Loads a GGUF. Throws what wllama throws, and `EngineDamaged`. */
  static async load(model: Blob, options: LoadOptions): Promise<Engine> {
    const start = performance.now();
    const compat = needsCompat();
    const wasm = await engineFile(compat ? engines.compatWasm : engines.wasm);
    const url = URL.createObjectURL(new Blob([wasm], { type: 'application/wasm' }));
    const quiet = () => {};
    const logger = { debug: quiet, log: quiet, warn: quiet, error: console.error };
    const wllama = new Wllama({ default: url }, { logger });
    if (compat) {
      const code = new TextDecoder().decode(await engineFile(engines.compatScript));
      wllama.setCompat({ worker: { code }, wasm: url });
    } else {
      // Its default would be another host.
      wllama.setCompat(null);
    }
    try {
      await wllama.loadModel([model], {
        n_ctx: options.context,
        n_threads: options.threads,
        n_batch: BATCH,
        n_ubatch: BATCH,
        n_parallel: 1,
        // On the processor: the answers that the self-test knows are computed there.
        n_gpu_layers: 0,
      });
    } catch (error) {
      await wllama.exit();
      URL.revokeObjectURL(url);
      throw error;
    }
    return new Engine(wllama, [url], {
      threads: wllama.getNumThreads(),
      context: options.context,
      loadTime: performance.now() - start,
      compat,
      chatTemplate: wllama.getChatTemplate(),
    });
  }

  /** Whether a token ends an answer here. */
  ends(id: number): boolean {
    return this.#wllama.isTokenEOG(id);
  }

  /** Ends the workers, and with them all of the model's memory. */
  async unload(): Promise<void> {
    await this.#wllama.exit();
    this.#urls.forEach((url) => URL.revokeObjectURL(url));
  }

  /**
   * Continues a text, or answers messages. When the signal aborts it ends and returns what came
   * until then. Text that leaves no room for an answer loses its oldest part. Throws `TooLong` where
   * the newest part alone does not fit.
   */
  async generate(prompt: Prompt, options: GenerateOptions): Promise<Answer> {
    let fitting = prompt;
    for (let shortenings = 0; ; shortenings++) {
      const shorter = shortenings < MAX_SHORTENINGS ? shorten(fitting) : null;
      try {
        const answer = await this.#generate(fitting, options, shorter !== null);
        return { ...answer, shortened: shortenings > 0 };
      } catch (error) {
        const long = error instanceof Crowded || isTooLong(error);
        if (!long) throw error;
        if (shorter === null) throw new TooLong(tokensIn(error), this.info.context);
        fitting = shorter;
      }
    }
  }

  /** Throws `Crowded` where `needsRoom` and the prompt leaves none for the answer. */
  async #generate(
    prompt: Prompt,
    options: GenerateOptions,
    needsRoom: boolean,
  ): Promise<Omit<Answer, 'shortened'>> {
    const { context } = this.info;
    const room = Math.min(options.maxNewTokens, Math.floor(context * ANSWER_SHARE));
    const crowded = new AbortController();
    const stops = [crowded.signal, ...(options.signal ? [options.signal] : [])];
    const meter = new SpeedMeter();
    let text = '';
    let end: Answer['end'] = 'stopped';
    const tokens: (number | null)[] = [];
    const alternatives: (Alternatives | null)[] = [];
    const onData = (chunk: Chunk) => {
      const all = chunk.prompt_progress?.total ?? 0;
      if (needsRoom && all + room > context) return crowded.abort();
      const choice = chunk.choices?.[0];
      const piece = choice?.text ?? choice?.delta?.content ?? '';
      if (choice?.finish_reason) end = choice.finish_reason === 'length' ? 'length' : 'model';
      meter.chunk(chunk, piece !== '');
      text += piece;
      place(tokens, alternatives, chunk);
      options.onText?.(text, meter.figures());
    };
    const abortSignal = AbortSignal.any(stops);
    const request = {
      ...samplingOf(options, context),
      abortSignal,
      stream: true as const,
      onData,
    };
    try {
      if ('messages' in prompt) {
        const { system } = prompt;
        const first = system === '' ? [] : [{ role: 'system', content: system }];
        const said = prompt.messages.map(({ role, text }) => ({ role, content: text }));
        const messages = [...first, ...said];
        await this.#wllama.createChatCompletion({ ...request, messages } as never);
      } else {
        // Ids of tokens come only with their probabilities.
        const ids = options.withIds ? { logprobs: ALTERNATIVES } : {};
        await this.#wllama.createCompletion({ ...request, ...ids, prompt: prompt.text } as never);
      }
    } catch (error) {
      if (!abortSignal.aborted) throw error;
    }
    if (crowded.signal.aborted && !options.signal?.aborted) throw new Crowded();
    return { text, tokens, alternatives, end, figures: meter.figures() };
  }
}

/**
 * Puts the id that a chunk tells where it belongs. llama.cpp sends a chunk once a character is
 * whole, with the id of the last of its tokens and the number of tokens so far.
 */
function place(
  tokens: (number | null)[],
  alternatives: (Alternatives | null)[],
  { choices, timings }: Chunk,
): void {
  const count = timings?.predicted_n ?? tokens.length;
  while (tokens.length < count) {
    tokens.push(null);
    alternatives.push(null);
  }
  const told = choices?.[0]?.logprobs?.content?.at(-1);
  if (told === undefined || tokens.length === 0) return;
  tokens[tokens.length - 1] = told.id;
  alternatives[tokens.length - 1] = told.top_logprobs ?? null;
}

/** llama.cpp's names, in the order in which our own `generate` applies them. */
function samplingOf(options: GenerateOptions, context: number) {
  return {
    max_tokens: options.maxNewTokens,
    temperature: options.temperature,
    top_k: options.topK,
    top_p: options.topP,
    min_p: 0,
    repeat_penalty: options.repetitionPenalty,
    // All tokens that the model can see.
    repeat_last_n: context,
    samplers: ['penalties', 'top_k', 'top_p', 'temperature'],
    cache_prompt: !options.fresh,
    ignore_eos: options.ignoreEnd ?? false,
    timings_per_token: true,
    return_progress: true,
  };
}

/** wllama's own rule: its default engine needs both. */
function needsCompat(): boolean {
  const firefox = /Firefox\//.test(navigator.userAgent);
  return !firefox && !('Suspending' in WebAssembly && hasMemory64());
}

/** Whether WebAssembly here can address more than 4 GiB. */
export function hasMemory64(): boolean {
  try {
    new WebAssembly.Memory({ address: 'i64', initial: 1n } as never);
    return true;
  } catch {
    return false;
  }
}

function isTooLong(error: unknown): boolean {
  return error instanceof Error && /exceed|larger than|too long|too large/i.test(error.message);
}

/** How many tokens llama.cpp says that it was given. */
function tokensIn(error: unknown): number | null {
  const count = /(\d+) tokens/.exec(error instanceof Error ? error.message : '')?.[1];
  return count === undefined ? null : Number(count);
}

/** Without the oldest third; null where nothing can go. */
function shorten(prompt: Prompt): Prompt | null {
  if ('text' in prompt && prompt.text.length > 3) {
    return { text: prompt.text.slice(Math.ceil(prompt.text.length / 3)) };
  }
  if (!('messages' in prompt)) return null;
  // A template wants the first message to be the user's. A question that was refused has no answer
  // behind it, so messages do not always come in pairs.
  const { messages } = prompt;
  const third = Math.max(1, Math.floor(messages.length / 3));
  const first = messages.findIndex(({ role }, index) => index >= third && role === 'user');
  return first < 0 ? null : { ...prompt, messages: messages.slice(first) };
}

/** Takes the figures of one answer while it comes. */
class SpeedMeter {
  readonly #start = performance.now();
  readonly #times: number[] = [];
  #first: number | null = null;
  #tokens = 0;
  #timings: Chunk['timings'];
  #progress: Figures['promptProgress'] = null;

  chunk({ timings, prompt_progress }: Chunk, hasText: boolean): void {
    const now = performance.now();
    if (timings) this.#timings = timings;
    if (prompt_progress) {
      this.#progress = { read: prompt_progress.processed, all: prompt_progress.total };
    }
    const tokens = timings?.predicted_n ?? this.#tokens + (hasText ? 1 : 0);
    if (tokens === this.#tokens) return;
    this.#tokens = tokens;
    this.#first ??= now;
    this.#times.push(now);
    while (this.#times.length > 2 && this.#times[0]! < now - NOW_WINDOW) this.#times.shift();
  }

  figures(): Figures {
    const last = this.#times.at(-1);
    const rate = (tokens: number, from: number | null | undefined) =>
      last != null && from != null && last > from ? (tokens * 1000) / (last - from) : null;
    const { cache_n = 0, prompt_n = 0, prompt_per_second = null } = this.#timings ?? {};
    return {
      promptProgress: this.#tokens === 0 ? this.#progress : null,
      firstToken: this.#first === null ? null : this.#first - this.#start,
      tokens: this.#tokens,
      speedNow: rate(this.#times.length - 1, this.#times[0]),
      speedAverage: rate(this.#tokens - 1, this.#first),
      promptTokens: prompt_n,
      promptSpeed: prompt_per_second,
      contextUsed: cache_n + prompt_n + this.#tokens,
    };
  }
}
