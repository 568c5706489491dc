// `bundle.json` and the manifests of its variants, as bundle/src/manifest.rs and
// fragment/src/manifest.rs write them. They may come from anybody: what these functions return
// stays inside the bundle, adds up, and is within the caps that the packer has.

import {
  asCount,
  asDay,
  asDigest,
  asLine,
  asList,
  asNumber,
  asObject,
  asText,
  demand,
  parseJson,
} from './check.ts';

/** A name within a path: no hidden file, and no dot at its end, which Windows drops. */
const PLAIN_NAME = /^[A-Za-z0-9_-](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?$/;
/** What Windows has for a device, whatever follows the first dot. */
const DEVICE_NAME = /^(?:con|prn|aux|nul|com[1-9]|lpt[1-9])(?:\.|$)/i;

/** What the packer has as limits, too: bundle/tests/golden/limits.json. */
export const LIMITS = {
  /** Largest `bundle.json` or manifest that is read, in bytes. */
  jsonBytes: 64 << 20,
  variants: 64,
  selfTestTokens: 1024,
  /** Files of a bundle, and fragments of a manifest. */
  entries: 1 << 20,
  fragmentBytes: 1 << 30,
  /** Special tokens, and tokens that end an answer. */
  specialTokens: 1 << 16,
  /** Characters of a text that is one line, and of a special token. */
  lineCharacters: 1000,
  promptCharacters: 100_000,
  answerCharacters: 1_000_000,
  /** Up to here doubles count exactly. */
  count: Number.MAX_SAFE_INTEGER,
};

/** What of a bundle the app uses. */
export interface Bundle {
  name: string;
  architecture: string;
  /** Most tokens that the model can see. */
  contextLength: number;
  /** Weights in the file. */
  parameters: number;
  license: string;
  /** Which release of the model it is; null where it states no order. */
  release: number | null;
  /** Last day, in UTC, on which it should be installed, as YYYY-MM-DD; null where it has none. */
  expires: string | null;
  /** Smallest first. */
  variants: Variant[];
  generation: Generation;
  /** Tokens that end an answer. */
  ends: number[];
  /** How the tokens are spelled that a message must not be able to make. */
  specialTokens: string[];
  selfTest: { prompt: string; promptTokens: number[] };
  /** SHA-256 of each file by its path in the bundle. */
  files: Map<string, { size: number; sha256: string }>;
}

/** One size of the model. */
export interface Variant {
  /** llama.cpp's name of the quantization, for example `Q4_K_M`. */
  recipe: string;
  /** Path of its manifest in the bundle. */
  manifest: string;
  /** Bytes of the whole GGUF. */
  size: number;
  /** Of the whole GGUF. */
  sha256: string;
  /** Share of positions where it holds the same token for the likeliest as the trained model. */
  top1Agreement: number | null;
  perplexity: number | null;
  /** Bytes that it takes while it runs, at `context` tokens. */
  memory: { context: number; weights: number; kvCache: number; compute: number; total: number };
  /** What it answers to the self-test's prompt, greedily. */
  expected: number[];
  /** The text that the engine shows for that; null where nobody knows. */
  expectedText: string | null;
}

/** How to sample. */
export interface Generation {
  /** Divides the logits; 0 is greedy. */
  temperature: number;
  /** Likeliest tokens to choose from; 0 is all. */
  topK: number;
  /** Smallest set of likeliest tokens whose probabilities reach this. */
  topP: number;
  /** Logits of tokens seen before are divided by this; 1 changes nothing. */
  repetitionPenalty: number;
  /** Tokens of an answer. */
  maxNewTokens: number;
}

/** A byte range of the GGUF, in a file of its own. */
export interface Fragment {
  /** `<blake3>.dat`, in the manifest's folder. Equal pieces share it. */
  file: string;
  size: number;
  sha256: string;
}

/** Reads and checks `bundle.json`. Throws `Refused` with the first rule that it breaks. */
export function parseBundle(text: string): Bundle {
  const json = asObject(parseJson(text, 'bundle.json'), 'bundle.json');
  checkFormat(json, 'pocketgpt-bundle', 'bundle.json');
  const files = parseFiles(json['files']);
  const contextLength = asCount(json['context_length'], 'context_length', 1);
  const selfTest = asObject(json['self_test'], 'self_test');
  const answers = parseAnswers(selfTest['expected']);
  const variants = asList(json['variants'], 'variants', LIMITS.variants).map((entry) =>
    parseVariant(asObject(entry, 'variant'), files, answers),
  );
  demand(variants.length > 0, 'a bundle needs at least one variant');
  const promptTokens = tokens(selfTest['prompt_tokens'], 'self_test.prompt_tokens', contextLength);
  for (const [recipe, answer] of answers) {
    demand(
      variants.some((variant) => variant.recipe === recipe),
      `the self-test answers for ${recipe}, which is no variant`,
    );
    const all = promptTokens.length + answer.tokens.length;
    demand(
      all <= contextLength,
      `the self-test of ${recipe} has ${all} tokens: expected at most ${contextLength}`,
    );
  }
  const generation = asObject(json['generation'], 'generation');
  const recipes = new Set(variants.map((variant) => variant.recipe));
  demand(recipes.size === variants.length, 'a variant is listed twice');
  return {
    name: asLine(json['name'], 'name', LIMITS.lineCharacters),
    architecture: asLine(json['architecture'], 'architecture', LIMITS.lineCharacters),
    contextLength,
    parameters: asCount(json['parameters'], 'parameters'),
    license: asLine(json['license'], 'license', LIMITS.lineCharacters),
    release: json['release'] == null ? null : asCount(json['release'], 'release', 1),
    expires: json['expires'] == null ? null : asDay(json['expires'], 'expires'),
    variants: variants.sort((a, b) => a.size - b.size),
    generation: parseGeneration(generation),
    ends: ids(generation['eos_token_ids'] ?? [], 'eos_token_ids', LIMITS.specialTokens),
    specialTokens: asList(json['special_tokens'] ?? [], 'special_tokens', LIMITS.specialTokens).map(
      (token) => asText(token, 'special_tokens', LIMITS.lineCharacters),
    ),
    selfTest: {
      prompt: asText(selfTest['prompt'], 'self_test.prompt', LIMITS.promptCharacters),
      promptTokens,
    },
    files,
  };
}

/**
 * Reads and checks the manifest of one variant: its fragments in file order, which tile the GGUF
 * that `variant` names and are listed in the bundle.
 */
export function parseManifest(text: string, variant: Variant, bundle: Bundle): Fragment[] {
  const what = variant.manifest;
  const json = asObject(parseJson(text, what), what);
  checkFormat(json, 'pocketgpt-fragments', what);
  const file = asObject(json['file'], `${what}: file`);
  demand(
    file['size'] === variant.size && file['sha256'] === variant.sha256,
    `${what} is of another file than bundle.json says`,
  );
  let end = 0;
  const fragments = asList(json['fragments'], `${what}: fragments`, LIMITS.entries).map(
    (entry, index) => {
      const whose = `${what}: fragment ${index}`;
      const fragment = asObject(entry, whose);
      demand(fragment['id'] === index, `${whose}: the ids do not count the list`);
      demand(fragment['offset'] === end, `${whose} does not follow the one before it`);
      const size = asCount(fragment['size'], `${whose}: size`, 1, LIMITS.fragmentBytes);
      const name = `${asDigest(fragment['blake3'], `${whose}: blake3`)}.dat`;
      demand(fragment['file'] === name, `${whose}: file is not named by its content`);
      const digest = asDigest(fragment['sha256'], `${whose}: sha256`);
      const listed = bundle.files.get(fragmentPath(name));
      demand(
        listed !== undefined && listed.size === size && listed.sha256 === digest,
        `${whose}: bundle.json does not list this file with this size and hash`,
      );
      end += size;
      return { file: name, size, sha256: digest };
    },
  );
  demand(end === variant.size, `${what}: the fragments have ${end} of ${variant.size} bytes`);
  return fragments;
}

/** Where a fragment lies in the bundle. */
export function fragmentPath(file: string): string {
  return `model/${file}`;
}

function checkFormat(json: Record<string, unknown>, format: string, what: string): void {
  demand(json['format'] === format, `${what}: format is not ${format}`);
  demand(json['version'] === 1, `${what}: this app reads version 1; take a newer app`);
}

function parseFiles(value: unknown): Bundle['files'] {
  const files: Bundle['files'] = new Map();
  for (const entry of asList(value, 'files', LIMITS.entries)) {
    const file = asObject(entry, 'files');
    const path = asText(file['path'], 'path', 255);
    const plain = path.split('/').every((part) => PLAIN_NAME.test(part) && !DEVICE_NAME.test(part));
    demand(plain, `path ${JSON.stringify(path)} leads outside of the bundle`);
    demand(path !== 'bundle.json', 'bundle.json cannot list itself');
    demand(!files.has(path), `${path} is listed twice`);
    const size = asCount(file['size'], `${path}: size`);
    files.set(path, { size, sha256: asDigest(file['sha256'], `${path}: sha256`) });
  }
  return files;
}

function parseVariant(
  json: Record<string, unknown>,
  files: Bundle['files'],
  answers: Map<string, Expected>,
): Variant {
  const recipe = asText(json['recipe'], 'recipe');
  demand(/^[A-Za-z0-9_]{1,32}$/.test(recipe), 'recipe: expected letters, digits and _');
  const manifest = asText(json['manifest'], `${recipe}: manifest`);
  demand(
    manifest === `model/${recipe}.manifest.json` && files.has(manifest),
    `${recipe}: its manifest is not listed`,
  );
  const expected = answers.get(recipe);
  demand(expected !== undefined, `the self-test has no answer for ${recipe}`);
  const quality = asObject(json['quality'], `${recipe}: quality`);
  const optional = (key: string) =>
    quality[key] == null ? null : asNumber(quality[key], `${recipe}: ${key}`, 0, Number.MAX_VALUE);
  const memory = asObject(json['memory'], `${recipe}: memory`);
  const bytes = (key: string) => asCount(memory[key], `${recipe}: memory.${key}`);
  return {
    recipe,
    manifest,
    size: asCount(json['size'], `${recipe}: size`, 1),
    sha256: asDigest(json['sha256'], `${recipe}: sha256`),
    top1Agreement: optional('top1_agreement'),
    perplexity: optional('perplexity'),
    memory: {
      context: asCount(memory['context'], `${recipe}: memory.context`, 1),
      weights: bytes('weights'),
      kvCache: bytes('kv_cache'),
      compute: bytes('compute'),
      total: bytes('total'),
    },
    expected: expected.tokens,
    expectedText: expected.text,
  };
}

function parseGeneration(json: Record<string, unknown>): Generation {
  return {
    temperature: asNumber(json['temperature'], 'temperature', 0, 100),
    topK: asCount(json['top_k'], 'top_k'),
    topP: asNumber(json['top_p'], 'top_p', 0, 1),
    repetitionPenalty: asNumber(json['repetition_penalty'], 'repetition_penalty', 0.01, 100),
    maxNewTokens: asCount(json['max_new_tokens'], 'max_new_tokens', 1),
  };
}

interface Expected {
  tokens: number[];
  text: string | null;
}

function parseAnswers(value: unknown): Map<string, Expected> {
  const answers = new Map<string, Expected>();
  for (const entry of asList(value, 'self_test.expected', LIMITS.variants)) {
    const answer = asObject(entry, 'self_test.expected');
    const recipe = asText(answer['recipe'], 'self_test.expected: recipe');
    const text = answer['text'] ?? null;
    answers.set(recipe, {
      tokens: tokens(answer['tokens'], `self_test of ${recipe}`, LIMITS.selfTestTokens),
      text:
        text === null
          ? null
          : asText(text, `self_test of ${recipe}: text`, LIMITS.answerCharacters),
    });
  }
  return answers;
}

function tokens(value: unknown, what: string, limit: number): number[] {
  const list = ids(value, what, limit);
  demand(list.length > 0, `${what}: expected at least one token`);
  return list;
}

function ids(value: unknown, what: string, limit: number): number[] {
  return asList(value, what, limit).map((token) => asCount(token, what, 0, 2 ** 32 - 1));
}
