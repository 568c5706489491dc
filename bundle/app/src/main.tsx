// The start of the app.

import { render } from 'preact';

import { App } from './app.ts';
import { lacking } from './device.ts';
import { chooseLanguage } from './i18n.ts';
import { registerWorker } from './isolation.ts';
import { Root } from './ui/root.tsx';
import { Unusable } from './ui/unusable.tsx';
import './ui/style.css';

const { code, texts } = chooseLanguage(navigator.languages);
document.documentElement.lang = code;
const root = document.getElementById('app');
if (root) void start(root);

async function start(root: HTMLElement): Promise<void> {
  const missing = lacking();
  if (missing) return render(<Unusable text={texts[missing]} />, root);
  render(<p class="starting">{texts.starting}</p>, root);
  const workerProblem = await registerWorker();
  try {
    const app = await App.start(workerProblem);
    render(<Root app={app} />, root);
  } catch (error) {
    // A private window may have storage by name only.
    console.error(error);
    render(<Unusable text={texts.noStorage} />, root);
  }
}
