// One model at work on one conversation: loads, answers, stops, and gives the memory back.

import { benchmark } from './benchmark.ts';
import type { BenchmarkResult } from './benchmark.ts';
import type { Generation } from './bundle.ts';
import { newConversation, titleOf } from './conversations.ts';
import type { Conversation, Message } from './conversations.ts';
import { Engine, TooLong } from './engine.ts';
import type { Answer, EngineInfo, Figures, Prompt } from './engine.ts';
import { IdleTimer } from './idle.ts';
import type { IdleMinutes } from './idle.ts';
import { PiecesGone } from './models.ts';
import { Observable } from './observable.ts';
import { selfTest } from './self_test.ts';
import type { SelfTestResult } from './self_test.ts';
import type { Installed } from './store.ts';
import { asText } from './typed.ts';

/** Most tokens of context that are reserved: their memory grows with them. */
const MAX_CONTEXT = 4096;
/** Milliseconds between two times that a growing answer is saved. */
const SAVE_INTERVAL = 1000;

/** Where the model is. */
export type EngineState = 'empty' | 'loading' | 'ready' | 'idle' | 'failed';

/** Why it does not go on: the name of the sentence that says so, and what to add. */
export interface SessionProblem {
  kind: 'gone' | 'memory' | 'engine' | 'generation' | 'unsaved' | 'tooLong' | 'elsewhere';
  detail: string;
}

/** Everything that the chat and the performance panel show. */
export interface SessionState {
  model: Installed | null;
  engine: EngineState;
  info: EngineInfo | null;
  conversation: Conversation;
  /** An answer is on its way. */
  generating: boolean;
  /** The oldest part of the conversation was too long for the context. */
  shortened: boolean;
  /** What ended the last answer; null before there is one. */
  end: Answer['end'] | null;
  figures: Figures | null;
  problem: SessionProblem | null;
  selfTest: SelfTestResult | null;
  /** Null until it was run. */
  benchmark: BenchmarkResult | 'running' | null;
}

/** What the session takes from its surroundings. */
export interface Surroundings {
  /** The GGUF. Throws `PiecesGone` if a part of it is gone and does not come again. */
  open: (model: Installed) => Promise<Blob>;
  save: (conversation: Conversation) => Promise<void>;
  /** Does `work` while no other tab answers the conversation; false if one does. */
  alone: (id: string, work: () => Promise<void>) => Promise<boolean>;
  threads: () => number;
  generation: (model: Installed) => Generation;
  /** How the tokens are spelled that a message must not be able to make. */
  specials: (model: Installed) => readonly string[];
}

type Work = (engine: Engine, model: Installed, signal: AbortSignal) => Promise<void>;

/** The model in use and the conversation with it. */
export class Session {
  readonly state = new Observable<SessionState>({
    model: null,
    engine: 'empty',
    info: null,
    conversation: newConversation(),
    generating: false,
    shortened: false,
    end: null,
    figures: null,
    problem: null,
    selfTest: null,
    benchmark: null,
  });
  readonly #around: Surroundings;
  readonly #idle: IdleTimer;
  #engine: Engine | null = null;
  #loading: Promise<Engine | null> | null = null;
  readonly #stops = new Set<AbortController>();
  /** Settles when the engine has nothing to do. */
  #work: Promise<void> = Promise.resolve();
  /** The answer that is being written, by the conversation's id. */
  readonly #answers = new Map<string, Promise<unknown>>();

  constructor(around: Surroundings, idle: IdleMinutes) {
    this.#around = around;
    this.#idle = new IdleTimer(idle, () => void this.release());
  }

  set idleMinutes(minutes: IdleMinutes) {
    this.#idle.minutes = minutes;
  }

  /** Uses this model instead of the one before. */
  async use(model: Installed | null): Promise<void> {
    this.stop();
    // With nothing to release the model is there at once, and so is its page.
    if (this.#engine || this.#loading) await this.release();
    this.#set({
      model,
      engine: 'empty',
      info: null,
      problem: null,
      selfTest: null,
      benchmark: null,
      figures: null,
    });
    if (model) await this.load();
  }

  /** Loads the model if it is not loaded. Null, and a problem in the state, if it cannot be. */
  async load(): Promise<Engine | null> {
    if (this.#engine) return this.#engine;
    this.#loading ??= this.#load().finally(() => (this.#loading = null));
    return this.#loading;
  }

  /** Gives the memory back; the next message loads the model again. */
  async release(): Promise<void> {
    this.stop();
    // An engine that is ended in the middle of an answer never says that it ended.
    await this.#work;
    await this.#loading;
    const engine = this.#engine;
    this.#engine = null;
    this.#idle.stop();
    await engine?.unload();
    if (engine) this.#set({ engine: 'idle' });
  }

  /** Ends the answer to a conversation, and waits until the last of it is saved. */
  async finish(id: string): Promise<void> {
    const answer = this.#answers.get(id);
    if (!answer) return;
    this.stop();
    await answer;
  }

  /** Shows another conversation. */
  show(conversation: Conversation): void {
    this.stop();
    this.#set({ conversation, shortened: false, end: null, problem: null });
  }

  /** From now on the model is told this before the conversation. */
  async instruct(system: string): Promise<void> {
    const conversation = { ...this.state.value.conversation, system, updated: Date.now() };
    this.#set({ conversation });
    if (conversation.messages.length > 0) await this.#save(conversation);
  }

  /** Adds what the user wrote and answers it. False where nothing was added. */
  async send(text: string): Promise<boolean> {
    const { messages } = this.state.value.conversation;
    return this.#answer([...messages, { role: 'user', text }]);
  }

  /** Replaces a message of the user, forgets what came after it, and answers it. */
  async resend(index: number, text: string): Promise<void> {
    const { messages } = this.state.value.conversation;
    await this.#answer([...messages.slice(0, index), { role: 'user', text }]);
  }

  /** Answers the last message of the user anew. */
  async regenerate(): Promise<void> {
    const { messages } = this.state.value.conversation;
    const last = messages.findLastIndex(({ role }) => role === 'user');
    if (last >= 0) await this.#answer(messages.slice(0, last + 1));
  }

  /** Shows what another tab made of the conversation that is shown, unless it is answered here. */
  refresh(conversation: Conversation): void {
    const shown = this.state.value.conversation;
    if (this.#answers.has(shown.id) || conversation.updated <= shown.updated) return;
    if (shown.id === conversation.id) this.#set({ conversation });
  }

  /** Goes on with the text, or with an answer, where it ends. */
  async goOn(): Promise<void> {
    await this.#answer([...this.state.value.conversation.messages]);
  }

  /** Ends the answer or the benchmark; what came stays. */
  stop(): void {
    this.#stops.forEach((stop) => stop.abort());
  }

  /** Whether the model says what it said when it was packed. */
  async selfTest(): Promise<void> {
    await this.#inTurn(async (engine, model) => {
      this.#set({ selfTest: await selfTest(engine, model) });
    });
  }

  /** Measures how fast this device is. */
  async benchmark(): Promise<void> {
    this.#set({ benchmark: 'running' });
    let result: BenchmarkResult | null = null;
    await this.#inTurn(async (engine, model, signal) => {
      result = await benchmark(engine, model, signal);
    });
    this.#set({ benchmark: result });
  }

  async #load(): Promise<Engine | null> {
    const { model } = this.state.value;
    if (!model) return null;
    this.#set({ engine: 'loading', problem: null });
    try {
      const blob = await this.#around.open(model);
      const context = Math.min(model.bundle.contextLength, MAX_CONTEXT);
      this.#engine = await Engine.load(blob, { context, threads: this.#around.threads() });
    } catch (error) {
      const detail = error instanceof Error ? error.message : String(error);
      if (error instanceof PiecesGone) return this.#fail({ kind: 'gone', detail });
      const memory = /memory|alloc|OOM|RangeError/i.test(`${error}`);
      return this.#fail({ kind: memory ? 'memory' : 'engine', detail });
    }
    this.#set({ engine: 'ready', info: this.#engine.info });
    this.#idle.touch();
    return this.#engine;
  }

  #fail(problem: SessionProblem): null {
    this.#set({ engine: 'failed', problem });
    return null;
  }

  /** Runs `work` with the model loaded, after whatever the engine does now. */
  #inTurn(work: Work): Promise<void> {
    const stop = new AbortController();
    this.#stops.add(stop);
    this.#work = this.#work
      .then(() => this.#run(work, stop.signal))
      .finally(() => this.#stops.delete(stop));
    return this.#work;
  }

  /** Never rejects: what goes wrong stands in the state. */
  async #run(work: Work, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    this.#set({ problem: null });
    try {
      const engine = await this.load();
      const { model } = this.state.value;
      if (!engine || !model || signal.aborted) return;
      await this.#idle.during(() => work(engine, model, signal));
    } catch (error) {
      if (signal.aborted) return;
      const detail = error instanceof Error ? error.message : String(error);
      // The engine refused the text and is well.
      if (error instanceof TooLong) return this.#set({ problem: { kind: 'tooLong', detail } });
      this.#set({ problem: { kind: 'generation', detail } });
      // A crashed engine answers nothing any more.
      await this.#engine?.unload();
      this.#engine = null;
      this.#set({ engine: 'idle' });
    }
  }

  /** False where another answer is on its way, here or in another tab. */
  async #answer(messages: Message[]): Promise<boolean> {
    if (this.state.value.generating) return false;
    const before = this.state.value.conversation;
    const conversation = { ...before, messages, updated: Date.now() };
    if (conversation.title === '') conversation.title = titleOf(messages[0]?.text ?? '');
    this.#set({ generating: true, end: null });
    const alone = this.#around.alone(conversation.id, () => this.#answerTo(before, conversation));
    const answer = alone.finally(() => {
      this.#answers.delete(conversation.id);
      this.#set({ generating: false });
    });
    this.#answers.set(conversation.id, answer);
    const wasAlone = await answer;
    if (!wasAlone) this.#set({ problem: { kind: 'elsewhere', detail: '' } });
    return wasAlone;
  }

  /** What is forgotten for a new answer stays saved until there is one, and comes back without one. */
  async #answerTo(before: Conversation, conversation: Conversation): Promise<void> {
    const forgets = conversation.messages.length <= before.messages.length;
    this.#set({ conversation });
    if (!forgets) await this.#save(conversation);
    await this.#inTurn((engine, model, signal) =>
      this.#generate(conversation, engine, model, signal),
    );
    if (forgets && this.state.value.conversation === conversation) {
      this.#set({ conversation: before });
    }
  }

  /** Lets the conversation grow by what the model says. */
  async #generate(
    conversation: Conversation,
    engine: Engine,
    model: Installed,
    signal: AbortSignal,
  ): Promise<void> {
    const { messages } = conversation;
    const last = messages.at(-1);
    const [before, begun] =
      last?.role === 'assistant' ? [messages.slice(0, -1), last.text] : [messages, ''];
    const grown = (text: string): Conversation => ({
      ...conversation,
      messages: text === '' ? messages : [...before, { role: 'assistant', text: begun + text }],
      updated: Date.now(),
    });
    let saved = Date.now();
    const prompt = promptOf(conversation, engine.info, this.#around.specials(model));
    const answer = await engine.generate(prompt, {
      ...this.#around.generation(model),
      signal,
      onText: (text, figures) => {
        // The user may look at another conversation by now.
        if (signal.aborted) return;
        this.#set({ conversation: grown(text), figures });
        if (Date.now() - saved < SAVE_INTERVAL) return;
        saved = Date.now();
        void this.#save(grown(text));
      },
    });
    const { figures, shortened, end } = answer;
    const isShown = this.state.value.conversation.id === conversation.id;
    if (isShown) this.#set({ figures, shortened, end });
    if (answer.text === '') return;
    if (isShown) this.#set({ conversation: grown(answer.text) });
    await this.#save(grown(answer.text));
  }

  /** Never rejects: the conversation goes on in memory, and the state says that it is not kept. */
  async #save(conversation: Conversation): Promise<void> {
    try {
      await this.#around.save(conversation);
    } catch (error) {
      const detail = error instanceof Error ? error.message : String(error);
      this.#set({ problem: { kind: 'unsaved', detail } });
    }
  }

  #set(change: Partial<SessionState>): void {
    this.state.value = { ...this.state.value, ...change };
  }
}

/**
 * Messages for a model with a template; for a base model one text, as it stands there. Special
 * tokens in them stay text.
 */
function promptOf(
  { messages, system }: Conversation,
  { chatTemplate }: EngineInfo,
  specials: readonly string[],
): Prompt {
  const safe = messages.map(({ role, text }) => ({ role, text: asText(text, specials) }));
  if (chatTemplate !== null) return { messages: safe, system: asText(system, specials) };
  return { text: safe.map(({ text }) => text).join('') };
}
