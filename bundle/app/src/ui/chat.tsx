// The conversation with the model: messages for a model with a chat template, one growing text for
// a base model. What a model writes is only ever text, never HTML.

import { memo } from 'preact/compat';
import { useEffect, useRef, useState } from 'preact/hooks';

import type { Message } from '../conversations.ts';
import type { SessionState } from '../session.ts';
import { useApp, useValue } from './context.ts';
import { Markdown } from './markdown.tsx';
import { CopyButton, Problem, SelfTestLine } from './parts.tsx';
import type { PageProps } from './page.ts';

/** The page of the conversation. */
export function ChatPage({ open }: PageProps) {
  const app = useApp();
  const { texts } = app.language;
  const state = useValue(app.session.state);
  const { model, engine, problem, conversation, generating } = state;
  const title = conversation.title || texts.chat;
  if (!model) {
    return (
      <>
        <h1>{texts.chat}</h1>
        <p>{texts.noModel}</p>
        <button type="button" class="primary" onClick={() => open('models')}>
          {texts.toModels}
        </button>
      </>
    );
  }
  return (
    <>
      <div class="conversation-line">
        <h1>{title}</h1>
        <Speed state={state} />
        <button
          type="button"
          class="quiet"
          disabled={conversation.messages.length === 0}
          onClick={() => app.begin()}
        >
          {texts.newConversation}
        </button>
      </div>
      <Messages state={state} />
      <div class="below">
        {engine === 'loading' && (
          <p class="note" role="status">
            {texts.loading}
          </p>
        )}
        {engine === 'idle' && !generating && <p class="note">{texts.idleNote}</p>}
        <PromptProgress state={state} />
        {state.shortened && <p class="note">{texts.shortened}</p>}
        <EndOfAnswer state={state} />
        {state.selfTest?.passed === false && (
          <p class="note">
            {texts.selfTest}: <SelfTestLine result={state.selfTest} />
          </p>
        )}
        {problem && <Problem text={texts[problem.kind]} detail={problem.detail} />}
        <Instructions state={state} />
        <Composer state={state} />
      </div>
    </>
  );
}

/** How fast the answer comes or came; a screen reader need not hear it grow. */
function Speed({ state }: { state: SessionState }) {
  const { format, language } = useApp();
  const { generating, figures } = state;
  const speed = generating ? figures?.speedNow : figures?.speedAverage;
  if (speed == null) return null;
  return (
    <p class="note figures" aria-hidden="true">
      {language.texts.tokensPerSecond(format.number(speed, 1))}
    </p>
  );
}

/** What the model is told before the first message, for this conversation and those after it. */
function Instructions({ state }: { state: SessionState }) {
  const app = useApp();
  const { texts } = app.language;
  const { conversation, generating } = state;
  const { system } = conversation;
  if (!isChat(state)) return null;
  const keep = (text: string) => {
    void app.session.instruct(text);
    void app.change({ system: text });
  };
  return (
    <details class="instructions note" open={system !== '' && conversation.messages.length === 0}>
      <summary>{texts.instructions}</summary>
      <textarea
        key={conversation.id}
        aria-label={texts.instructions}
        placeholder={texts.instructionsHint}
        rows={2}
        dir="auto"
        disabled={generating}
        defaultValue={system}
        onChange={(event) => keep(event.currentTarget.value)}
      />
    </details>
  );
}

/** How much of a long prompt is read: nothing else shows that the model is at work. */
function PromptProgress({ state }: { state: SessionState }) {
  const { format, language } = useApp();
  const progress = state.generating ? state.figures?.promptProgress : null;
  if (!progress || progress.all === 0) return null;
  const { read, all } = progress;
  return (
    <p class="note" role="status">
      {language.texts.reading(format.number(read, 0), format.number(all, 0))}
    </p>
  );
}

/** An answer that ended by its length says so, and can go on. */
function EndOfAnswer({ state }: { state: SessionState }) {
  const { language, session } = useApp();
  const { texts } = language;
  const { generating, end, conversation } = state;
  const answered = conversation.messages.at(-1)?.role === 'assistant';
  if (generating || end !== 'length' || !answered || !isChat(state)) return null;
  return (
    <p class="note">
      {texts.endedByLength}{' '}
      <button type="button" class="quiet" onClick={() => void session.goOn()}>
        {texts.goOn}
      </button>
    </p>
  );
}

function Messages({ state }: { state: SessionState }) {
  const { language, session } = useApp();
  const { texts } = language;
  const { conversation, generating } = state;
  const { messages } = conversation;
  const [editing, setEditing] = useState<number | null>(null);
  const end = useRef<HTMLDivElement>(null);
  useEffect(() => setEditing(null), [conversation.id]);
  useEffect(() => follow(end.current), [messages, generating]);
  const chat = isChat(state);
  // A conversation opens at its end, and what was sent is in sight; also once the model is loaded, when
  // answers become Markdown.
  useEffect(() => toEnd(end.current), [conversation.id, messages.length, chat, state.engine]);
  const resend = (index: number, text: string) => {
    setEditing(null);
    void session.resend(index, text);
  };
  return (
    <div
      class={chat ? 'messages' : 'messages as-text'}
      role="log"
      aria-label={texts.chat}
      aria-busy={generating}
      tabIndex={0}
    >
      {messages.length === 0 && (
        <p class="welcome">{chat ? texts.welcomeChat : texts.welcomeText}</p>
      )}
      {messages.map((message, index) =>
        editing === index ? (
          <Editor
            key={index}
            text={message.text}
            onSend={(text) => resend(index, text)}
            onCancel={() => setEditing(null)}
          />
        ) : (
          <MessageView
            key={index}
            message={message}
            index={index}
            last={index === messages.length - 1}
            chat={chat}
            generating={generating}
            onEdit={setEditing}
          />
        ),
      )}
      <div ref={end} />
    </div>
  );
}

interface MessageProps {
  message: Message;
  index: number;
  last: boolean;
  /** An answer of a chat model is Markdown; what a base model writes is text. */
  chat: boolean;
  generating: boolean;
  onEdit: (index: number) => void;
}

/** One message; drawn again only when it is another one. */
const MessageView = memo(({ message, index, last, chat, generating, onEdit }: MessageProps) => {
  const { language, session } = useApp();
  const { texts } = language;
  const { role, text } = message;
  return (
    <article class={`message ${role}`} data-role={role}>
      <h2 class="hidden">{role === 'user' ? texts.you : texts.model}</h2>
      {chat && role === 'assistant' ? (
        <div class="text markdown" dir="auto">
          <Markdown text={text} />
        </div>
      ) : (
        <p class="text" dir="auto">
          {text}
        </p>
      )}
      {!(generating && last) && (
        <p class="actions small">
          <CopyButton text={text} class="quiet" />
          {role === 'user' ? (
            <button type="button" class="quiet" disabled={generating} onClick={() => onEdit(index)}>
              {texts.edit}
            </button>
          ) : (
            last && (
              <button
                type="button"
                class="quiet"
                disabled={generating}
                onClick={() => void session.regenerate()}
              >
                {texts.regenerate}
              </button>
            )
          )}
          {'share' in navigator && (
            <button type="button" class="quiet" onClick={() => share(text)}>
              {texts.share}
            </button>
          )}
        </p>
      )}
    </article>
  );
});

interface EditorProps {
  text: string;
  onSend: (text: string) => void;
  onCancel: () => void;
}

function Editor({ text, onSend, onCancel }: EditorProps) {
  const { texts } = useApp().language;
  const [value, setValue] = useState(text);
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => field.current?.focus(), []);
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === 'Escape') onCancel();
    if (isSubmit(event) && value.trim() !== '') {
      event.preventDefault();
      onSend(value);
    }
  };
  return (
    <div class="message editor">
      <textarea
        ref={field}
        aria-label={texts.edit}
        value={value}
        rows={3}
        onInput={(event) => setValue(event.currentTarget.value)}
        onKeyDown={onKeyDown}
      />
      <p class="actions">
        <button
          type="button"
          class="primary"
          disabled={value.trim() === ''}
          onClick={() => onSend(value)}
        >
          {texts.resend}
        </button>
        <button type="button" class="quiet" onClick={onCancel}>
          {texts.cancel}
        </button>
      </p>
    </div>
  );
}

function Composer({ state }: { state: SessionState }) {
  const app = useApp();
  const { language, session } = app;
  const { texts } = language;
  const { drafts } = app;
  const { generating, conversation, info } = state;
  const [text, setText] = useState('');
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => setText(drafts.get(conversation.id) ?? ''), [conversation.id]);
  const write = (text: string) => {
    drafts.set(conversation.id, text);
    setText(text);
  };
  const chat = isChat(state);
  // A base model can go on with what stands there already; until a model is loaded nobody knows which
  // kind it is.
  const continues = info !== null && !chat && conversation.messages.length > 0;
  const ready = text.trim() !== '' || (text === '' && continues);
  const submit = async () => {
    if (generating || !ready) return;
    if (text === '') return session.goOn();
    write('');
    // What was not taken stays to be sent again.
    if (!(await session.send(text))) write(text);
  };
  const stop = () => {
    session.stop();
    field.current?.focus();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === 'Escape') session.stop();
    if (isSubmit(event) && !isTouch()) {
      event.preventDefault();
      void submit();
    }
  };
  const label = chat ? texts.messageLabel : texts.textLabel;
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        void submit();
      }}
    >
      <textarea
        ref={field}
        aria-label={label}
        placeholder={label}
        rows={2}
        dir="auto"
        value={text}
        onInput={(event) => write(event.currentTarget.value)}
        onKeyDown={onKeyDown}
      />
      {generating ? (
        <button type="button" class="primary" onClick={stop}>
          {texts.stop}
        </button>
      ) : (
        <button type="submit" class="primary" disabled={!ready}>
          {chat ? texts.send : texts.write}
        </button>
      )}
    </form>
  );
}

function isChat({ info }: SessionState): boolean {
  return info !== null && info.chatTemplate !== null;
}

/** Enter sends, Shift+Enter is a new line, and Enter that picks a word of an input method neither. */
function isSubmit(event: KeyboardEvent): boolean {
  return event.key === 'Enter' && !event.shiftKey && !event.isComposing;
}

/** On a keyboard of the screen Enter is a new line: its button sends. */
function isTouch(): boolean {
  return matchMedia('(hover: none) and (pointer: coarse)').matches;
}

function share(text: string): void {
  navigator.share({ text }).catch((error) => {
    if (!(error instanceof DOMException && error.name === 'AbortError')) console.warn(error);
  });
}

/** Scrolls along while text comes, unless the user scrolled up to read. */
function follow(end: HTMLElement | null): void {
  const log = end?.parentElement;
  if (!end || !log) return;
  const near = log.scrollHeight - log.scrollTop - log.clientHeight < 160;
  if (near) log.scrollTop = log.scrollHeight;
}

function toEnd(end: HTMLElement | null): void {
  const log = end?.parentElement;
  if (log) log.scrollTop = log.scrollHeight;
}
