// Conversations, kept in this browser's IndexedDB and nowhere else.

import { asCount, asLine, asList, asObject, asText, demand, parseJson } from './check.ts';

const DATABASE = 'pocketgpt';
const TABLE = 'conversations';
const EXPORT_FORMAT = 'pocketgpt-conversations';
const MAX_CONVERSATIONS = 10_000;
const MAX_MESSAGES = 10_000;
const MAX_TEXT = 1_000_000;
const MAX_TITLE = 120;
/** Largest file that is imported, in bytes. */
export const MAX_IMPORT_BYTES = 256 << 20;

/** Who wrote a message. */
export type Role = 'user' | 'assistant';

/** One message, as plain text. */
export interface Message {
  role: Role;
  text: string;
}

/** Messages in order. With a base model, one text in pieces: what was typed and what came. */
export interface Conversation {
  id: string;
  title: string;
  /** Milliseconds since 1970. */
  created: number;
  updated: number;
  /** What the model is told before the first message; empty for nothing. */
  system: string;
  messages: Message[];
}

/** An empty conversation. */
export function newConversation(system = '', now = Date.now()): Conversation {
  return { id: crypto.randomUUID(), title: '', created: now, updated: now, system, messages: [] };
}

/** A title of the first words. */
export function titleOf(text: string): string {
  const line = text.trim().replace(/\s+/g, ' ');
  return line.length > 48 ? `${line.slice(0, 47)}…` : line;
}

/** Those whose title or text has all words of `query`, whatever their case and accents. */
export function search(conversations: readonly Conversation[], query: string): Conversation[] {
  const words = plain(query).split(/\s+/).filter(Boolean);
  return conversations.filter(({ title, messages }) => {
    const text = plain([title, ...messages.map((message) => message.text)].join('\n'));
    return words.every((word) => text.includes(word));
  });
}

/** The text of an export. */
export function exportJson(conversations: readonly Conversation[]): string {
  return JSON.stringify({ format: EXPORT_FORMAT, version: 1, conversations }, null, 2) + '\n';
}

/** Reads an export. Throws `Refused` with the first rule that it breaks. */
export function importJson(text: string): Conversation[] {
  const json = asObject(parseJson(text, 'the file'), 'the file');
  demand(json['format'] === EXPORT_FORMAT, `format is not ${EXPORT_FORMAT}`);
  demand(json['version'] === 1, 'this app reads version 1; take a newer app');
  const list = asList(json['conversations'], 'conversations', MAX_CONVERSATIONS);
  const conversations = list.map((entry, index) => parseConversation(entry, `[${index}]`));
  const ids = new Set(conversations.map(({ id }) => id));
  demand(ids.size === conversations.length, 'a conversation is listed twice');
  return conversations;
}

function parseConversation(value: unknown, what: string): Conversation {
  const json = asObject(value, what);
  const id = asText(json['id'], `${what}.id`, 64);
  demand(/^[A-Za-z0-9-]{1,64}$/.test(id), `${what}.id: expected letters, digits and -`);
  const messages = asList(json['messages'], `${what}.messages`, MAX_MESSAGES).map((entry) => {
    const message = asObject(entry, `${what}.messages`);
    const role = message['role'];
    demand(role === 'user' || role === 'assistant', `${what}: a role is not user or assistant`);
    return { role, text: asText(message['text'], `${what}.text`, MAX_TEXT) } satisfies Message;
  });
  return {
    id,
    title: asLine(json['title'], `${what}.title`, MAX_TITLE),
    created: asCount(json['created'], `${what}.created`),
    updated: asCount(json['updated'], `${what}.updated`),
    // Exports of earlier versions have none.
    system: json['system'] === undefined ? '' : asText(json['system'], `${what}.system`, MAX_TEXT),
    messages,
  };
}

function plain(text: string): string {
  return text.normalize('NFD').replace(/\p{M}/gu, '').toLowerCase();
}

/** The table of conversations. */
export class Conversations {
  readonly #database: IDBDatabase;

  private constructor(database: IDBDatabase) {
    this.#database = database;
  }

  /** Opens or makes it. */
  static async open(name = DATABASE): Promise<Conversations> {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: 'id' });
    return new Conversations(await done(request));
  }

  /** All of them, the last used first. */
  async all(): Promise<Conversation[]> {
    const list = await done<Conversation[]>(this.#table('readonly').getAll());
    // Earlier versions kept no instructions.
    const whole = list.map((one) => ({ ...one, system: one.system ?? '' }));
    return whole.sort((a, b) => b.updated - a.updated);
  }

  /** Keeps it, in place of the one with its id. */
  async save(conversation: Conversation): Promise<void> {
    await committed(this.#table('readwrite').put(conversation));
  }

  async remove(id: string): Promise<void> {
    await committed(this.#table('readwrite').delete(id));
  }

  /** Adds what `text` exports; of two with one id the one used last stays. Says how many came. */
  async import(text: string): Promise<number> {
    const known = new Map((await this.all()).map((one) => [one.id, one.updated]));
    const fresh = importJson(text).filter((one) => one.updated > (known.get(one.id) ?? -1));
    const table = this.#table('readwrite');
    const puts = fresh.map((conversation) => table.put(conversation));
    const last = puts.at(-1);
    if (last) await committed(last);
    return fresh.length;
  }

  #table(mode: IDBTransactionMode): IDBObjectStore {
    return this.#database.transaction(TABLE, mode).objectStore(TABLE);
  }
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error('the database refuses'));
  });
}

/** Settles when a change is on disk: a request may succeed and its transaction fail for lack of room. */
function committed(request: IDBRequest): Promise<void> {
  const { transaction } = request;
  return new Promise((resolve, reject) => {
    if (!transaction) throw new Error('a change has a transaction');
    const fail = () => reject(transaction.error ?? new Error('the database refuses'));
    transaction.oncomplete = () => resolve();
    transaction.onabort = fail;
    transaction.onerror = fail;
  });
}
