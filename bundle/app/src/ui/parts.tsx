// Small parts that several pages use.

import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';

import type { SelfTestResult } from '../self_test.ts';
import { useApp } from './context.ts';

/** A sentence that says what is wrong and what to do, with the technical part folded away. */
export function Problem({ text, detail = '' }: { text: string; detail?: string }) {
  const { texts } = useApp().language;
  return (
    <div class="problem" role="alert">
      <p>{text}</p>
      {detail !== '' && (
        <details>
          <summary>{texts.details}</summary>
          <p>{detail}</p>
        </details>
      )}
    </div>
  );
}

/** The heading of a page; it takes the focus, so that a screen reader says where one is. */
export function Heading({ children }: { children: ComponentChildren }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), []);
  return (
    <h1 ref={heading} tabIndex={-1}>
      {children}
    </h1>
  );
}

/** Names and figures, in two columns. */
export function Facts({ rows }: { rows: readonly (readonly [string, ComponentChildren])[] }) {
  return (
    <dl class="facts">
      {rows.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** Copies `text`, and says so. */
export function CopyButton({ text, class: className }: { text: string; class?: string }) {
  const { texts } = useApp().language;
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 2000);
  };
  return (
    <button type="button" class={className} onClick={() => void copy()}>
      <span aria-live="polite">{copied ? texts.copied : texts.copy}</span>
    </button>
  );
}

/** How the self-test ended. */
export function SelfTestLine({ result }: { result: SelfTestResult }) {
  const { texts } = useApp().language;
  const { passed, expected, found } = result;
  const differs = expected.findIndex((token, index) => token !== (found[index] ?? token));
  // Of a token within a character the engine does not tell the id.
  const tokens = found.map((token) => token ?? '?').join(' ');
  return (
    <span data-self-test={passed ? 'passed' : 'failed'} data-tokens={tokens}>
      {passed
        ? texts.selfTestPassed(expected.length)
        : texts.selfTestFailed(differs, expected.length)}
    </span>
  );
}
