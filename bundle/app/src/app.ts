// Puts the parts together: what the pages of the app work with.

import type { Bundle, Generation } from './bundle.ts';
import { defaultThreads, deviceMemory } from './choose.ts';
import type { Device } from './choose.ts';
import { Conversations, newConversation } from './conversations.ts';
import type { Conversation } from './conversations.ts';
import { thisDevice } from './device.ts';
import { Format } from './format.ts';
import { chooseLanguage } from './i18n.ts';
import type { Language } from './i18n.ts';
import { defaultIdleMinutes, onMemoryPressure } from './idle.ts';
import type { IdleMinutes } from './idle.ts';
import type { WorkerProblem } from './isolation.ts';
import { Models } from './models.ts';
import { Observable } from './observable.ts';
import { Session } from './session.ts';
import { SETTINGS_KEY, loadSettings, savedSettings } from './settings.ts';
import type { Settings } from './settings.ts';
import { Store } from './store.ts';
import type { Installed } from './store.ts';

/** The app, started. */
export class App {
  readonly language: Language = chooseLanguage(navigator.languages);
  readonly format = new Format(this.language.code);
  readonly device: Device = thisDevice();
  readonly settings: Observable<Settings> = loadSettings(localStorage);
  readonly history = new Observable<readonly Conversation[]>([]);
  readonly models: Models;
  readonly session: Session;
  /** Why the app does not work without a network; null where it does. */
  readonly workerProblem: WorkerProblem;
  /** What is typed and not sent, by the conversation's id. */
  readonly drafts = new Map<string, string>();
  readonly #conversations: Conversations;
  /** The other tabs with this app: a conversation that was saved, or null where several changed. */
  readonly #tabs = new BroadcastChannel('pocketgpt-conversations');

  private constructor(store: Store, conversations: Conversations, workerProblem: WorkerProblem) {
    this.workerProblem = workerProblem;
    // The app lies in a folder of the bundle.
    this.models = new Models(store, new URL('../', document.baseURI).href, localStorage);
    this.#conversations = conversations;
    const around = {
      alone: (id: string, work: () => Promise<void>) => alone(`conversation-${id}`, work),
      open: (model: Installed) => this.models.open(model),
      save: (conversation: Conversation) => this.save(conversation),
      threads: () => this.threads(),
      generation: ({ bundle }: Installed) => this.generation(bundle),
      specials: ({ bundle }: Installed) =>
        this.settings.value.parseSpecial ? [] : bundle.specialTokens,
    };
    this.session = new Session(around, this.idleMinutes());
    onMemoryPressure(() => void this.session.release());
  }

  /** Opens what this browser keeps, and starts the model that was used last. */
  static async start(workerProblem: WorkerProblem): Promise<App> {
    const app = new App(await Store.open(), await Conversations.open(), workerProblem);
    await app.models.refresh();
    await app.#readHistory();
    const { installed } = app.models.state.value;
    const last = installed.find(({ id }) => id === app.settings.value.model) ?? installed[0];
    // Who comes back finds the model and the conversation that were used last.
    const conversation = app.history.value[0];
    if (conversation) app.session.show(conversation);
    else app.begin();
    if (last) void app.session.use(last);
    app.#followOtherTabs();
    void app.models.findOffer();
    return app;
  }

  /** Tokens are chosen as the user said, or as the bundle proposes. */
  generation(bundle: Bundle): Generation {
    return { ...bundle.generation, ...this.settings.value.generation };
  }

  threads(): number {
    const proposed = defaultThreads(navigator.hardwareConcurrency || 1, crossOriginIsolated);
    return crossOriginIsolated ? (this.settings.value.threads ?? proposed) : 1;
  }

  idleMinutes(): IdleMinutes {
    const { idle } = this.settings.value;
    return idle === 'auto' ? defaultIdleMinutes(deviceMemory(this.device)) : idle;
  }

  /** Changes settings, and what depends on them. */
  async change(change: Partial<Settings>): Promise<void> {
    const before = this.threads();
    this.settings.value = { ...this.settings.value, ...change };
    this.session.idleMinutes = this.idleMinutes();
    if (this.threads() === before) return;
    await this.session.release();
    await this.session.load();
  }

  /** Uses a model from now on. */
  async use(model: Installed): Promise<void> {
    await this.change({ model: model.id });
    await this.session.use(model);
  }

  /** Removes a model from this device. */
  async remove(model: Installed): Promise<void> {
    if (this.session.state.value.model?.id === model.id) await this.session.use(null);
    await this.models.remove(model.id);
  }

  /** Begins a conversation. */
  begin(): void {
    this.session.show(newConversation(this.settings.value.system));
  }

  async save(conversation: Conversation): Promise<void> {
    await this.#conversations.save(conversation);
    this.#tabs.postMessage(conversation);
    this.#place(conversation);
  }

  #place(conversation: Conversation): void {
    const others = this.history.value.filter(({ id }) => id !== conversation.id);
    this.history.value = [conversation, ...others].sort((a, b) => b.updated - a.updated);
  }

  async rename(conversation: Conversation, title: string): Promise<void> {
    await this.session.finish(conversation.id);
    const shown = this.session.state.value.conversation;
    // An answer may have made it longer.
    const latest = this.history.value.find(({ id }) => id === conversation.id) ?? conversation;
    const renamed = { ...(shown.id === latest.id ? shown : latest), title };
    await this.save(renamed);
    if (shown.id === renamed.id) this.session.show(renamed);
  }

  async delete({ id }: Conversation): Promise<void> {
    // What an answer still has to save comes before, or it would bring the conversation back.
    await this.session.finish(id);
    if (this.session.state.value.conversation.id === id) this.begin();
    await this.#conversations.remove(id);
    this.drafts.delete(id);
    this.#tabs.postMessage(null);
    await this.#readHistory();
  }

  /** Adds conversations from an export. Throws `Refused`. */
  async import(text: string): Promise<number> {
    const count = await this.#conversations.import(text);
    this.#tabs.postMessage(null);
    await this.#readHistory();
    return count;
  }

  /** What other tabs save is shown here, and a conversation goes on from there. */
  #followOtherTabs(): void {
    this.#tabs.onmessage = async ({ data }: MessageEvent<Conversation | null>) => {
      // A growing answer is saved each second, so one conversation is told as it is.
      if (data) this.#place(data);
      else await this.#readHistory();
      const { id } = this.session.state.value.conversation;
      const saved = this.history.value.find((one) => one.id === id);
      if (saved) this.session.refresh(saved);
    };
    window.addEventListener('storage', ({ key }) => {
      if (key === SETTINGS_KEY) this.settings.value = savedSettings(localStorage);
    });
  }

  async #readHistory(): Promise<void> {
    this.history.value = await this.#conversations.all();
  }
}

/** Does `work` while no other tab holds the lock; false if one does. */
async function alone(name: string, work: () => Promise<void>): Promise<boolean> {
  return navigator.locks.request(name, { ifAvailable: true }, async (lock) => {
    if (lock) await work();
    return lock !== null;
  });
}
