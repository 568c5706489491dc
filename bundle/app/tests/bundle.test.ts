import { readFileSync } from 'node:fs';

import { describe, expect, it } from 'vitest';

import { LIMITS, parseBundle, parseManifest } from '../src/bundle.ts';
import { Refused } from '../src/check.ts';
import { FRAGMENTS, bundleJson, manifestJson } from './samples.ts';
import type { Json } from './samples.ts';

const bundle = () => parseBundle(JSON.stringify(bundleJson()));

describe('bundle.json', () => {
  it('is read', () => {
    const { name, contextLength, variants, generation, selfTest } = bundle();
    expect([name, contextLength]).toEqual(['tiny', 48]);
    expect(variants[0]).toMatchObject({ recipe: 'Q8_0', top1Agreement: 0.98, expected: [4, 5] });
    expect(generation.topK).toBe(40);
    expect(variants[0]!.expectedText).toBe('é');
    expect(bundle()).toMatchObject({ ends: [0, 7], specialTokens: ['<|im_end|>', '</s>'] });
    expect(selfTest).toEqual({ prompt: 'a b c', promptTokens: [1, 2, 3] });
  });

  it('of before special tokens were listed is read', () => {
    const json = bundleJson();
    delete json.special_tokens;
    delete json.generation.eos_token_ids;
    delete json.self_test.expected[0].text;
    const old = parseBundle(JSON.stringify(json));
    expect(old).toMatchObject({ ends: [], specialTokens: [] });
    expect(old.variants[0]!.expectedText).toBeNull();
  });

  const hostile: [string, (json: Json) => void, RegExp][] = [
    ['another format', (json) => (json.format = 'x'), /format/],
    ['a newer version', (json) => (json.version = 2), /version 1/],
    ['no variants', (json) => (json.variants = []), /at least one variant/],
    ['a variant twice', (json) => json.variants.push(json.variants[0]), /twice/],
    ['too many variants', (json) => (json.variants = Array(65).fill({})), /at most 64/],
    ['a variant that is no object', (json) => (json.variants = [[]]), /expected an object/],
    ['a recipe that is a path', (json) => (json.variants[0].recipe = '../x'), /recipe/],
    ['a manifest elsewhere', (json) => (json.variants[0].manifest = 'model/x.json'), /manifest/],
    ['a size of zero', (json) => (json.variants[0].size = 0), /size/],
    ['a size that is no number', (json) => (json.variants[0].size = '1'), /size/],
    ['a broken size', (json) => (json.variants[0].size = 1.5), /whole number/],
    ['a size past doubles', (json) => (json.variants[0].size = 2 ** 60), /size/],
    ['a hash in capitals', (json) => (json.variants[0].sha256 = 'A'.repeat(64)), /sha256/],
    ['a negative memory', (json) => (json.variants[0].memory.total = -1), /memory.total/],
    ['no answer', (json) => (json.self_test.expected = []), /no answer for Q8_0/],
    ['an empty answer', (json) => (json.self_test.expected[0].tokens = []), /at least one/],
    ['a special token that is no text', (json) => (json.special_tokens = [1]), /special_tokens/],
    ['an end that is no id', (json) => (json.generation.eos_token_ids = ['x']), /eos_token_ids/],
    ['a negative token', (json) => (json.self_test.prompt_tokens = [-1]), /prompt_tokens/],
    ['a path upwards', (json) => (json.files[0].path = '../../etc/passwd'), /outside/],
    ['an absolute path', (json) => (json.files[0].path = '/x'), /outside/],
    ['a path with a scheme', (json) => (json.files[0].path = 'https://host/x'), /outside/],
    ['a hidden file', (json) => (json.files[0].path = 'a/.b'), /outside/],
    ['a name of a device', (json) => (json.files[0].path = 'a/NUL.dat'), /outside/],
    ['a name that ends in a dot', (json) => (json.files[0].path = 'a/b.'), /outside/],
    ['a path twice', (json) => json.files.push(json.files[0]), /twice/],
    ['a name with control characters', (json) => (json.name = 'a\u001b[2J'), /control/],
    ['a name without end', (json) => (json.name = 'a'.repeat(10_000)), /longer/],
    ['a temperature that is NaN', (json) => (json.generation.temperature = null), /temperature/],
    ['a context of zero', (json) => (json.context_length = 0), /context_length/],
  ];
  it.each(hostile)('with %s is refused', (_, spoil, message) => {
    const json = bundleJson();
    spoil(json);
    expect(() => parseBundle(JSON.stringify(json))).toThrow(Refused);
    expect(() => parseBundle(JSON.stringify(json))).toThrow(message);
  });

  it.each(['', 'null', '[]', '{', '1', '"text"'])('that is %j is refused', (text) => {
    expect(() => parseBundle(text)).toThrow(Refused);
  });

  it('cannot reach the prototype of objects', () => {
    const text = JSON.stringify(bundleJson()).replace('"name"', '"__proto__":{"x":1},"name"');
    parseBundle(text);
    expect(({} as Json)['x']).toBeUndefined();
  });
});

/** `bundle/tests/limits.rs` reads the same cases. */
const golden = (name: string) =>
  readFileSync(new URL(`../../tests/golden/${name}`, import.meta.url), 'utf8');

interface LimitCase {
  what: string;
  set: Record<string, { value?: unknown; text?: string; list?: unknown; times?: number }>;
  accepted: boolean;
}

describe('the limits', () => {
  const { limits, cases }: { limits: unknown; cases: LimitCase[] } = JSON.parse(
    golden('limits.json'),
  );

  it("are the packer's", () => {
    expect(LIMITS).toEqual(limits);
  });

  it.each(cases)("refuse what the packer's do: $what", ({ set, accepted }) => {
    const json: Json = JSON.parse(golden('bundle.json'));
    for (const [pointer, { value, text, list, times }] of Object.entries(set)) {
      const keys = pointer.split('/').slice(1);
      const last = keys.pop()!;
      const parent = keys.reduce((at: Json, key) => at[key], json);
      parent[last] =
        text !== undefined ? text.repeat(times!) : times ? Array(times).fill(list) : value;
    }
    const parse = () => parseBundle(JSON.stringify(json));
    if (accepted) expect(parse).not.toThrow();
    else expect(parse).toThrow(Refused);
  });
});

describe('a manifest', () => {
  const parse = (json: Json) =>
    parseManifest(JSON.stringify(json), bundle().variants[0]!, bundle());

  it('is read', () => {
    expect(parse(manifestJson())).toEqual(FRAGMENTS);
  });

  const hostile: [string, (json: Json) => void, RegExp][] = [
    ['another format', (json) => (json.format = 'x'), /format/],
    ['another file', (json) => (json.file.sha256 = '0'.repeat(64)), /another file/],
    ['a gap', (json) => (json.fragments[1].offset += 1), /does not follow/],
    ['a piece left out', (json) => json.fragments.splice(1, 1), /ids/],
    ['the last piece left out', (json) => json.fragments.pop(), /bytes/],
    ['a file of another name', (json) => (json.fragments[0].file = '../x.dat'), /named/],
    ['an empty piece', (json) => (json.fragments[0].size = 0), /size/],
    ['a huge piece', (json) => (json.fragments[0].size = 2 ** 31), /size/],
    ['another hash', (json) => (json.fragments[0].sha256 = '0'.repeat(64)), /does not list/],
    ['another size', (json) => (json.fragments[0].size = 1), /does not list/],
  ];
  it.each(hostile)('with %s is refused', (_, spoil, message) => {
    const json = manifestJson();
    spoil(json);
    expect(() => parse(json)).toThrow(Refused);
    expect(() => parse(json)).toThrow(message);
  });
});
