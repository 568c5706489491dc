// The conversations of this browser: search, rename, delete, export, import.

import { useRef, useState } from 'preact/hooks';

import { MAX_IMPORT_BYTES, exportJson, search } from '../conversations.ts';
import type { Conversation } from '../conversations.ts';
import { useApp, useValue } from './context.ts';
import { Heading, Problem } from './parts.tsx';
import type { PageProps } from './page.ts';

/** The page of conversations. */
export function HistoryPage({ open }: PageProps) {
  const app = useApp();
  const { texts } = app.language;
  const conversations = useValue(app.history);
  const [query, setQuery] = useState('');
  const found = search(conversations, query);
  const begin = () => {
    app.begin();
    open('chat');
  };
  const show = (conversation: Conversation) => {
    app.session.show(conversation);
    open('chat');
  };
  return (
    <>
      <Heading>{texts.history}</Heading>
      <p class="actions">
        <button type="button" class="primary" onClick={begin}>
          {texts.newConversation}
        </button>
        <button
          type="button"
          disabled={conversations.length === 0}
          onClick={() => save('conversations.json', exportJson(conversations))}
        >
          {texts.export}
        </button>
        <ImportButton />
      </p>
      <label class="field">
        {texts.search}
        <input
          type="search"
          value={query}
          onInput={(event) => setQuery(event.currentTarget.value)}
        />
      </label>
      {found.length === 0 && <p class="note">{texts.noConversations}</p>}
      <ul class="conversations">
        {found.map((conversation) => (
          <Row key={conversation.id} conversation={conversation} show={show} />
        ))}
      </ul>
    </>
  );
}

interface RowProps {
  conversation: Conversation;
  show: (conversation: Conversation) => void;
}

function Row({ conversation, show }: RowProps) {
  const app = useApp();
  const { texts } = app.language;
  const [title, setTitle] = useState<string | null>(null);
  const shown = conversation.title || texts.untitled;
  if (title !== null) {
    const rename = () => {
      void app.rename(conversation, title.trim());
      setTitle(null);
    };
    return (
      <li class="card">
        <form
          onSubmit={(event) => {
            event.preventDefault();
            rename();
          }}
        >
          <label class="field">
            {texts.titleLabel}
            <input
              maxLength={120}
              value={title}
              onInput={(event) => setTitle(event.currentTarget.value)}
            />
          </label>
          <p class="actions">
            <button type="submit">{texts.save}</button>
            <button type="button" class="quiet" onClick={() => setTitle(null)}>
              {texts.cancel}
            </button>
          </p>
        </form>
      </li>
    );
  }
  return (
    <li class="card">
      <button type="button" class="open" onClick={() => show(conversation)}>
        {shown}
      </button>
      <p class="note">{app.format.date(conversation.updated)}</p>
      <p class="actions small">
        <button
          type="button"
          class="quiet"
          aria-label={`${texts.rename}: ${shown}`}
          onClick={() => setTitle(conversation.title)}
        >
          {texts.rename}
        </button>
        <button
          type="button"
          class="quiet"
          aria-label={`${texts.delete}: ${shown}`}
          onClick={() => {
            if (confirm(texts.deleteQuestion(shown))) void app.delete(conversation);
          }}
        >
          {texts.delete}
        </button>
      </p>
    </li>
  );
}

function ImportButton() {
  const app = useApp();
  const { texts } = app.language;
  const input = useRef<HTMLInputElement>(null);
  const [result, setResult] = useState<number | Error | null>(null);
  const read = async (file: File | undefined) => {
    if (!file) return;
    try {
      if (file.size > MAX_IMPORT_BYTES) throw new Error(`> ${MAX_IMPORT_BYTES} bytes`);
      setResult(await app.import(await file.text()));
    } catch (error) {
      setResult(error instanceof Error ? error : new Error(String(error)));
    }
    if (input.current) input.current.value = '';
  };
  return (
    <>
      <button type="button" onClick={() => input.current?.click()}>
        {texts.import}
      </button>
      <input
        ref={input}
        type="file"
        accept="application/json,.json"
        hidden
        aria-label={texts.import}
        onChange={(event) => void read(event.currentTarget.files?.[0])}
      />
      {typeof result === 'number' && <span role="status">{texts.imported(result)}</span>}
      {result instanceof Error && <Problem text={`${texts.importRefused} ${result.message}`} />}
    </>
  );
}

/** Offers `text` as a file to save. */
function save(name: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: 'application/json' }));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
