// What the model does here: figures of the last answer, memory, self-test, benchmark.

import { useApp, useValue } from './context.ts';
import { CopyButton, Facts, Heading, Problem, SelfTestLine } from './parts.tsx';

/** The page of figures. */
export function PerformancePage() {
  const { format, language, session } = useApp();
  const { texts } = language;
  const { model, info, figures, generating, problem, ...state } = useValue(session.state);
  const shown = (value: number | null | undefined, write: (value: number) => string) =>
    value == null ? texts.notYet : write(value);
  const speed = (value: number) => format.number(value, 1);
  const busy = generating || state.benchmark === 'running';
  const memory = model?.variant.memory;
  const context = info ? Math.min(info.context, model?.bundle.contextLength ?? Infinity) : null;
  // The cache was measured for the whole context and grows with it.
  const kvCache = memory && context ? (memory.kvCache * context) / memory.context : null;
  return (
    <>
      <Heading>{texts.performance}</Heading>
      {!model && <p>{texts.noModel}</p>}
      <Facts
        rows={[
          [texts.speedNow, shown(generating ? figures?.speedNow : null, speed)],
          [texts.speedAverage, shown(figures?.speedAverage, speed)],
          [texts.firstToken, shown(figures?.firstToken, (ms) => format.milliseconds(ms))],
          [texts.promptSpeed, shown(figures?.promptSpeed, speed)],
          [texts.loadTime, shown(info?.loadTime, (ms) => format.milliseconds(ms))],
          [
            texts.contextUsed,
            shown(context, (all) =>
              texts.ofContext(format.number(figures?.contextUsed ?? 0), format.number(all)),
            ),
          ],
          [texts.weights, shown(memory?.weights, (bytes) => format.bytes(bytes))],
          [texts.kvCache, shown(kvCache, (bytes) => format.bytes(bytes))],
          [texts.compute, shown(memory?.compute, (bytes) => format.bytes(bytes))],
          [texts.threads, shown(info?.threads, (count) => format.number(count))],
          [texts.engineKind, info ? `llama.cpp${info.compat ? ' (compat)' : ''}` : texts.notYet],
          [
            texts.selfTest,
            state.selfTest ? <SelfTestLine result={state.selfTest} /> : texts.notYet,
          ],
        ]}
      />
      {problem && <Problem text={texts[problem.kind]} detail={problem.detail} />}
      <p class="actions">
        <button type="button" disabled={!model || busy} onClick={() => void session.selfTest()}>
          {texts.runSelfTest}
        </button>
        <button
          type="button"
          class="primary"
          disabled={!model || busy}
          onClick={() => void session.benchmark()}
        >
          {texts.runBenchmark}
        </button>
        {state.benchmark === 'running' && (
          <button type="button" onClick={() => session.stop()}>
            {texts.stop}
          </button>
        )}
      </p>
      <p role="status">{state.benchmark === 'running' && texts.running}</p>
      {state.benchmark !== null && state.benchmark !== 'running' && (
        <section aria-labelledby="benchmark">
          <h2 id="benchmark">{texts.benchmarkResult}</h2>
          <pre tabIndex={0}>{JSON.stringify(state.benchmark, null, 2)}</pre>
          <CopyButton text={JSON.stringify(state.benchmark, null, 2)} />
        </section>
      )}
    </>
  );
}
