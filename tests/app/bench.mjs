// Measures the web chat: speed, start, memory, for each variant and number of threads. One JSON
// object a line on stdout.
//
// usage: through bench.sh, or with the variables that prepare.sh sets:
//     node tests/app/bench.mjs [RECIPE...] [--threads 1,2]

import { readFileSync, readdirSync } from 'node:fs';
import { parseArgs } from 'node:util';

import { browser, bundle, install, open, ready, visit } from './harness.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { threads: { type: 'string', default: '1,2' } },
});
const recipes = positionals.length > 0 ? positionals : bundle.variants.map(({ recipe }) => recipe);

for (const recipe of recipes) {
  for (const threads of values.threads.split(',').map(Number)) {
    console.log(JSON.stringify(await measure(recipe, threads)));
  }
}
await browser.close();

async function measure(recipe, threads) {
  const ends = [];
  const { page } = await open({ after: (end) => ends.push(end) }, { threads });
  const begun = performance.now();
  await install(page, recipe);
  const cold = performance.now() - begun;
  await page.evaluate(() => navigator.serviceWorker.ready);
  const again = performance.now();
  await page.reload();
  await ready(page);
  const warm = performance.now() - again;
  const idle = memoryOfRenderer();
  await visit(page, 'performance');
  let peak = idle;
  const watch = setInterval(() => (peak = Math.max(peak, memoryOfRenderer())), 500);
  await page.getByRole('button', { name: 'Run the benchmark' }).click();
  const text = await page.locator('pre').textContent({ timeout: 600_000 });
  clearInterval(watch);
  for (const end of ends) await end();
  const result = JSON.parse(text);
  return {
    ...result,
    answer_tokens_per_s_median: median(result.answer_tokens_per_s),
    prompt_tokens_per_s_median: median(result.prompt_tokens_per_s),
    first_token_ms_median: median(result.first_token_ms),
    cold_start_ms: Math.round(cold),
    warm_start_ms: Math.round(warm),
    page_bytes_loaded: idle,
    page_bytes_peak: peak,
  };
}

/** Resident bytes of the page with its workers: our browser's largest renderer, without its code. */
function memoryOfRenderer() {
  const processes = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => ({ pid, status: read(`/proc/${pid}/status`) }));
  const ours = new Set([String(process.pid)]);
  let largest = 0;
  // Children have larger numbers than their parents, unless the numbers have begun anew.
  for (const { pid, status } of processes.sort((a, b) => a.pid - b.pid)) {
    const field = (name) => new RegExp(`^${name}:\\s*(\\d+)`, 'm').exec(status)?.[1] ?? '0';
    if (!ours.has(field('PPid'))) continue;
    ours.add(pid);
    if (!read(`/proc/${pid}/cmdline`).includes('--type=renderer')) continue;
    largest = Math.max(largest, (Number(field('RssAnon')) + Number(field('RssShmem'))) * 1024);
  }
  return largest;
}

/** A file of a process, which may have ended by now. */
function read(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function median(numbers) {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
}
