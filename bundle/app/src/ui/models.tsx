// What the bundle offers and what is on this device.

import { useState } from 'preact/hooks';

import type { Variant } from '../bundle.ts';
import { chooseVariant, fits } from '../choose.ts';
import { isInstallable } from '../models.ts';
import type { ModelsState, Offer, Stale } from '../models.ts';
import type { Installed } from '../store.ts';
import type { Signature } from '../trust.ts';
import { useApp, useValue } from './context.ts';
import { Facts, Heading, Problem } from './parts.tsx';
import type { PageProps } from './page.ts';

/** The page of models. */
export function ModelsPage({ open }: PageProps) {
  const { language, models, workerProblem } = useApp();
  const { texts } = language;
  const state = useValue(models.state);
  return (
    <>
      <Heading>{texts.models}</Heading>
      <p class="note">{texts.private}</p>
      {workerProblem !== null && <Problem text={texts.noWorker} detail={workerProblem} />}
      {!crossOriginIsolated && <Problem text={texts.noThreads} />}
      <InstalledList installed={state.installed} open={open} />
      <h2>{state.offer ? `${texts.offered} · ${state.offer.bundle.name}` : texts.offered}</h2>
      {state.offer ? <OfferList state={state} offer={state.offer} open={open} /> : <NoOffer />}
    </>
  );
}

function NoOffer() {
  const { language, models } = useApp();
  const { texts } = language;
  const { offerProblem: problem } = useValue(models.state);
  if (!problem) return <p class="note">{texts.starting}</p>;
  return (
    <>
      <Problem text={texts[problem.kind]} detail={problem.detail} />
      <button type="button" onClick={() => void models.findOffer()}>
        {texts.again}
      </button>
    </>
  );
}

function InstalledList({
  installed,
  open,
}: { installed: readonly Installed[] } & Pick<PageProps, 'open'>) {
  const app = useApp();
  const { texts } = app.language;
  const { model: used } = useValue(app.session.state);
  const use = (model: Installed) => {
    void app.use(model);
    open('chat');
  };
  const remove = (model: Installed) => {
    const name = `${model.bundle.name} ${model.variant.recipe}`;
    if (confirm(texts.removeQuestion(name))) void app.remove(model);
  };
  return (
    <section aria-labelledby="installed">
      <h2 id="installed">{texts.installed}</h2>
      {installed.length === 0 && <p class="note">{texts.noneInstalled}</p>}
      <ul class="cards">
        {installed.map((model) => (
          <li key={model.id} class="card" data-installed={model.variant.recipe}>
            <h3>
              {model.bundle.name} <code>{model.variant.recipe}</code>
              {model.id === used?.id && <em>{texts.inUse}</em>}
            </h3>
            <p class="note">
              {app.format.bytes(model.variant.size)}
              {model.bundle.release !== null && ` · ${texts.release(model.bundle.release)}`}
              {model.signer && ` · ${texts.signed(fingerprint(model.signer))}`}
            </p>
            {model.signer && app.models.isRevoked(model.signer) && (
              <p class="warning">{texts.revokedHere}</p>
            )}
            <p class="actions">
              {model.id !== used?.id && (
                <button type="button" onClick={() => use(model)}>
                  {texts.use}
                </button>
              )}
              <button type="button" class="quiet" onClick={() => remove(model)}>
                {texts.remove}
              </button>
            </p>
          </li>
        ))}
      </ul>
    </section>
  );
}

function OfferList({
  state,
  offer,
  open,
}: { state: ModelsState; offer: Offer } & Pick<PageProps, 'open'>) {
  const { device, language } = useApp();
  const { texts } = language;
  const { variants } = offer.bundle;
  const proposed = chooseVariant(variants, device);
  const missing = variants.filter(({ sha256 }) => !state.installed.some(({ id }) => id === sha256));
  const { downloadProblem: problem } = state;
  return (
    <>
      <SignatureLine signature={offer.signature} release={offer.bundle.release} />
      {offer.stale && <StaleLine stale={offer.stale} />}
      {state.appChanged && <Problem text={texts.appChanged} />}
      {problem && <Problem text={texts[problem.kind]} detail={problem.detail} />}
      {isInstallable(offer) && (
        <ul class="cards">
          {missing.map((variant) => (
            <VariantCard
              key={variant.recipe}
              variant={variant}
              proposed={variant === proposed}
              state={state}
              open={open}
            />
          ))}
        </ul>
      )}
      {missing.length === 0 && <p class="note">{texts.allInstalled}</p>}
    </>
  );
}

function SignatureLine({ signature, release }: { signature: Signature; release: number | null }) {
  const { texts } = useApp().language;
  switch (signature.state) {
    case 'unsigned':
      return <p class="note">{texts.unsigned}</p>;
    case 'valid': {
      const order = release === null ? texts.noRelease : texts.release(release);
      return <p class="note">{`${texts.signed(fingerprint(signature.key))} · ${order}`}</p>;
    }
    case 'invalid':
      return <Problem text={texts.invalid} detail={signature.detail} />;
    case 'revoked':
      return <Problem text={texts.revoked} detail={signature.key} />;
    case 'changed':
      return <ChangedLine signature={signature} />;
  }
}

/** The user decides: the bundle is by another key than before, or by nobody. */
function ChangedLine({ signature }: { signature: Signature & { state: 'changed' } }) {
  const { key, pinned, refused } = signature;
  const { language, models } = useApp();
  const { texts } = language;
  if (refused) {
    return (
      <>
        <p class="note">{texts.keyRefused(key === null ? null : fingerprint(key))}</p>
        <button type="button" class="quiet" onClick={() => void models.reconsiderKey()}>
          {texts.reconsider}
        </button>
      </>
    );
  }
  return (
    <>
      <Problem
        text={key === null ? texts.signatureGone : texts.changed}
        detail={`${pinned} → ${key ?? '–'}`}
      />
      <p class="actions">
        <button type="button" onClick={() => void models.refuseKey()}>
          {texts.refuse}
        </button>
        <button type="button" class="quiet" onClick={() => void models.acceptKey()}>
          {key === null ? texts.acceptUnsigned : texts.trust}
        </button>
      </p>
    </>
  );
}

/** The signature is in order and the bundle is not: the user may take it all the same. */
function StaleLine({ stale }: { stale: Stale }) {
  const { language, models } = useApp();
  const { texts } = language;
  return (
    <>
      <Problem
        text={stale.kind === 'older' ? texts.older(stale.newest) : texts.expired(stale.day)}
      />
      <p class="actions">
        <button type="button" class="quiet" onClick={() => models.acceptStale()}>
          {texts.takeStale}
        </button>
      </p>
    </>
  );
}

interface VariantProps extends Pick<PageProps, 'open'> {
  variant: Variant;
  proposed: boolean;
  state: ModelsState;
}

function VariantCard({ variant, proposed, state, open }: VariantProps) {
  const { device, format, language } = useApp();
  const { texts } = language;
  const { recipe, size, memory, top1Agreement, perplexity } = variant;
  const rows: [string, string][] = [
    [texts.size, format.bytes(size)],
    [texts.need, format.bytes(memory.total)],
  ];
  if (top1Agreement !== null) rows.push([texts.agreement, format.percent(top1Agreement)]);
  if (perplexity !== null) rows.push([texts.perplexity, format.number(perplexity, 2)]);
  return (
    <li class="card" data-offered={recipe}>
      <h3>
        <code>{recipe}</code>
        {proposed && <em>{texts.recommended}</em>}
      </h3>
      <Facts rows={rows} />
      {!fits(variant, device) && <p class="warning">{texts.tooLarge}</p>}
      {state.download?.recipe === recipe ? (
        <DownloadLine state={state} />
      ) : (
        <DownloadButtons variant={variant} proposed={proposed} state={state} open={open} />
      )}
    </li>
  );
}

function DownloadButtons({ variant, proposed, state, open }: VariantProps) {
  const app = useApp();
  const { texts } = app.language;
  const [starting, setStarting] = useState(false);
  const here = state.present.get(variant.recipe) ?? 0;
  const need = variant.size - here;
  const started = here > 0 && app.models.started(variant);
  const lacksRoom = state.free !== null && need > state.free;
  const install = async () => {
    setStarting(true);
    const model = await app.models.install(variant);
    setStarting(false);
    if (!model) return;
    open('chat');
    await app.use(model);
    await app.session.selfTest();
  };
  return (
    <>
      {lacksRoom && (
        <p class="warning">
          {texts.noRoom(app.format.bytes(need), app.format.bytes(state.free ?? 0))}
        </p>
      )}
      <p class="actions">
        <button
          type="button"
          class={proposed ? 'primary' : ''}
          disabled={state.download !== null || starting}
          onClick={() => void install()}
        >
          {started ? texts.resume(app.format.bytes(need)) : texts.download(app.format.bytes(need))}
        </button>
        {started && state.download === null && (
          <button
            type="button"
            class="quiet"
            onClick={() => void app.models.remove(variant.sha256)}
          >
            {texts.discard}
          </button>
        )}
      </p>
    </>
  );
}

function DownloadLine({ state }: { state: ModelsState }) {
  const { format, language, models } = useApp();
  const { texts } = language;
  if (!state.download) return null;
  const { received, total, speed, left } = state.download.progress;
  const parts = [texts.progress(format.bytes(received), format.bytes(total))];
  if (speed > 0) parts.push(texts.speed(format.bytes(speed)));
  if (left !== null) parts.push(texts.left(format.duration(left)));
  return (
    <>
      <progress aria-label={texts.downloading} value={received} max={total} />
      <p class="note figures">{parts.join(' · ')}</p>
      <p class="actions">
        <button type="button" onClick={() => models.cancel()}>
          {texts.cancel}
        </button>
      </p>
    </>
  );
}

/** The first digits of a key: enough to compare by eye. */
function fingerprint(key: string): string {
  return key.slice(0, 16);
}
