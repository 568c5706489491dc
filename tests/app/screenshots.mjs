// Pictures of the app with a bundle as it was packed, for the README: set the same variables as
// bench.mjs, and POCKETGPT_SCREENSHOTS=FOLDER.
//
// usage: node tests/app/screenshots.mjs [PROMPT]

import {
  browser,
  bundle,
  chooseGreedy,
  install,
  offered,
  open,
  say,
  screenshot,
  visit,
} from './harness.mjs';

const prompt = process.argv[2] ?? bundle.self_test.prompt;
const { recipe } = bundle.variants[0];
const PHONE = { viewport: { width: 360, height: 640 }, deviceScaleFactor: 2, isMobile: true };
const LAPTOP = { viewport: { width: 1100, height: 700 } };
const SHOTS = {
  laptop: { ...LAPTOP, colorScheme: 'light' },
  'laptop-dark': { ...LAPTOP, colorScheme: 'dark' },
  phone: { ...PHONE, colorScheme: 'light' },
  'phone-french-dark': { ...PHONE, colorScheme: 'dark', locale: 'fr-FR' },
};

for (const [name, profile] of Object.entries(SHOTS)) {
  const ends = [];
  const { page } = await open({ after: (end) => ends.push(end) }, { threads: null, ...profile });
  await offered(page, recipe).waitFor();
  await screenshot(page, `${name}-models`);
  await install(page, recipe);
  await chooseGreedy(page, 60);
  await say(page, prompt);
  await screenshot(page, `${name}-chat`);
  await visit(page, 'performance');
  await screenshot(page, `${name}-performance`);
  for (const end of ends) await end();
}
await browser.close();
