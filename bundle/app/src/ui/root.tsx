// The frame around the pages: the name, the navigation, the page that is open.

import type { FunctionComponent } from 'preact';
import { useEffect, useLayoutEffect, useState } from 'preact/hooks';

import type { App } from '../app.ts';
import { AppContext, useApp, useValue } from './context.ts';
import { ChatPage } from './chat.tsx';
import { HistoryPage } from './history.tsx';
import { ModelsPage } from './models.tsx';
import type { Page, PageProps } from './page.ts';
import { PerformancePage } from './performance.tsx';
import { SettingsPage } from './settings.tsx';

const PAGES: Record<Page, FunctionComponent<PageProps>> = {
  chat: ChatPage,
  history: HistoryPage,
  models: ModelsPage,
  performance: PerformancePage,
  settings: SettingsPage,
};

/** The whole app. */
export function Root({ app }: { app: App }) {
  return (
    <AppContext.Provider value={app}>
      <Frame />
    </AppContext.Provider>
  );
}

function Frame() {
  const { language, settings, session, models } = useApp();
  const { texts } = language;
  const { theme } = useValue(settings);
  const { model } = useValue(session.state);
  const { offer, installed } = useValue(models.state);
  const [page, open] = usePage(installed.length > 0 ? 'chat' : 'models');
  useLayoutEffect(() => {
    document.documentElement.dataset['theme'] = theme;
  }, [theme]);
  const name = model?.bundle.name ?? offer?.bundle.name ?? 'pocketgpt';
  useEffect(() => {
    document.title = `${name} · ${texts[page]}`;
  }, [name, page, texts]);
  const Open = PAGES[page];
  return (
    <>
      <a class="skip" href="#content" onClick={focusContent}>
        {texts.skip}
      </a>
      <header>
        <p class="name">
          {name}
          {model && <small>{model.variant.recipe}</small>}
        </p>
        <nav aria-label={name}>
          {(Object.keys(PAGES) as Page[]).map((target) => (
            <a key={target} href={`#${target}`} aria-current={target === page ? 'page' : undefined}>
              {texts[target]}
            </a>
          ))}
        </nav>
      </header>
      <main id="content" tabIndex={-1} class={`page-${page}`}>
        <Open open={open} />
      </main>
    </>
  );
}

/** The open page, which follows the address, so that the back button works. */
function usePage(first: Page): [Page, (page: Page) => void] {
  const [page, setPage] = useState<Page>(pageOf(location.hash) ?? first);
  useEffect(() => {
    const follow = () => setPage((page) => pageOf(location.hash) ?? page);
    addEventListener('hashchange', follow);
    return () => removeEventListener('hashchange', follow);
  }, []);
  const open = (target: Page) => {
    location.hash = target;
  };
  return [page, open];
}

function pageOf(hash: string): Page | null {
  const name = hash.slice(1);
  return Object.hasOwn(PAGES, name) ? (name as Page) : null;
}

function focusContent(event: Event): void {
  event.preventDefault();
  document.getElementById('content')?.focus();
}
