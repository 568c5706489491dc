// What a model writes, shown as Markdown. `marked` reads it into tokens, and each becomes an element
// here: no HTML is ever made of text, so HTML in an answer is shown as the text that it is.

import { marked } from 'marked';
import type { Token, Tokens } from 'marked';
import type { ComponentChildren } from 'preact';
import { memo } from 'preact/compat';

import { CopyButton } from './parts.tsx';

/** Deepest nesting that is shown as such: each level of a quote or list is a call. */
const MAX_DEPTH = 16;

/** A text as Markdown. Blocks that stay the same while it grows are not drawn again. */
export function Markdown({ text }: { text: string }) {
  return (
    <>
      {tokens(text).map((token, index) => (
        <Block key={index} raw={token.raw} token={token} />
      ))}
    </>
  );
}

/** The blocks of a text; all of it as one, if `marked` cannot read it. */
function tokens(text: string): Token[] {
  try {
    return marked.lexer(text);
  } catch (error) {
    console.warn('shown as plain text', error);
    return [{ type: 'text', raw: text, text }];
  }
}

const Block = memo(
  ({ token }: { raw: string; token: Token }) => <>{block(token, 0)}</>,
  (before, after) => before.raw === after.raw,
);

function block(token: Token, depth: number): ComponentChildren {
  if (depth > MAX_DEPTH) return token.raw;
  switch (token.type) {
    case 'space':
    case 'def':
      return null;
    case 'code':
      return <Code {...(token as Tokens.Code)} />;
    case 'heading':
      return <p class="heading">{inline(token as Tokens.Heading, depth)}</p>;
    case 'hr':
      return <hr />;
    case 'blockquote':
      return <blockquote>{blocks(token as Tokens.Blockquote, depth)}</blockquote>;
    case 'list':
      return list(token as Tokens.List, depth);
    case 'table':
      return table(token as Tokens.Table, depth);
    case 'paragraph':
      return <p>{inline(token as Tokens.Paragraph, depth)}</p>;
    case 'text':
      return inline(token as Tokens.Text, depth);
    default:
      // HTML, and whatever a later version of `marked` knows besides.
      return <p>{token.raw}</p>;
  }
}

function blocks({ tokens }: { tokens?: Token[] | undefined }, depth: number): ComponentChildren {
  return tokens?.map((token) => block(token, depth + 1));
}

function list({ ordered, start, items }: Tokens.List, depth: number): ComponentChildren {
  const content = items.map((item, index) => (
    <li key={index}>
      {item.task && (item.checked ? '☑ ' : '☐ ')}
      {blocks(item, depth)}
    </li>
  ));
  return ordered ? <ol start={Number(start) || 1}>{content}</ol> : <ul>{content}</ul>;
}

function table({ header, rows }: Tokens.Table, depth: number): ComponentChildren {
  const cells = (row: Tokens.TableCell[], Cell: 'th' | 'td') =>
    row.map((cell, index) => (
      <Cell key={index} style={cell.align ? { textAlign: cell.align } : undefined}>
        {inline(cell, depth)}
      </Cell>
    ));
  return (
    <div class="table" tabIndex={0}>
      <table>
        <thead>
          <tr>{cells(header, 'th')}</tr>
        </thead>
        <tbody>
          {rows.map((row, index) => (
            <tr key={index}>{cells(row, 'td')}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Code({ text, lang }: Tokens.Code) {
  return (
    <figure class="code">
      <figcaption>
        <span>{lang ?? ''}</span>
        <CopyButton text={text} class="quiet" />
      </figcaption>
      <pre tabIndex={0}>
        <code>{text}</code>
      </pre>
    </figure>
  );
}

/** The parts of a line; the text itself where it has none. */
function inline(
  { tokens, text }: { tokens?: Token[] | undefined; text: string },
  depth: number,
): ComponentChildren {
  if (!tokens || depth > MAX_DEPTH) return text;
  return tokens.map((token) => span(token, depth + 1));
}

function span(token: Token, depth: number): ComponentChildren {
  switch (token.type) {
    case 'strong':
      return <strong>{inline(token as Tokens.Strong, depth)}</strong>;
    case 'em':
      return <em>{inline(token as Tokens.Em, depth)}</em>;
    case 'del':
      return <del>{inline(token as Tokens.Del, depth)}</del>;
    case 'codespan':
      return <code>{(token as Tokens.Codespan).text}</code>;
    case 'br':
      return <br />;
    case 'link':
      return link(token as Tokens.Link, depth);
    case 'text':
    case 'escape':
      return inline(token as Tokens.Text, depth);
    default:
      // Images are never fetched, and HTML is text.
      return token.raw;
  }
}

/** Only addresses of the web are links, and each says where it leads. */
function link(token: Tokens.Link, depth: number): ComponentChildren {
  if (!/^https?:\/\//i.test(token.href)) return token.raw;
  return (
    <a href={token.href} title={token.href} target="_blank" rel="noopener noreferrer nofollow">
      {inline(token, depth)}
    </a>
  );
}
