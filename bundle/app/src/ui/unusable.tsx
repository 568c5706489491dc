/** The page of a browser in which the app cannot run. */
export function Unusable({ text }: { text: string }) {
  return (
    <main class="unusable">
      <h1>pocketgpt</h1>
      <p role="alert">{text}</p>
    </main>
  );
}
