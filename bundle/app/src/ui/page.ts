// What the frame and its pages agree on.

/** The pages, by the name that stands in the address after #. */
export type Page = 'chat' | 'history' | 'models' | 'performance' | 'settings';

/** What each page is given. */
export interface PageProps {
  open: (page: Page) => void;
}
