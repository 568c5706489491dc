// How components reach the app, its sentences and its values.

import { createContext } from 'preact';
import { useContext, useEffect, useState } from 'preact/hooks';

import type { App } from '../app.ts';
import type { Observable } from '../observable.ts';

/** The app that a page belongs to. */
export const AppContext = createContext<App | null>(null);

/** The app. */
export function useApp(): App {
  const app = useContext(AppContext);
  if (!app) throw new Error('this component stands outside of the app');
  return app;
}

/** An observable's value; the component is drawn again when it changes. */
export function useValue<T>(observable: Observable<T>): T {
  const [value, setValue] = useState(observable.value);
  useEffect(() => {
    setValue(observable.value);
    return observable.subscribe(setValue);
  }, [observable]);
  return value;
}
