// The same question under base and up to two adapters, side by side.
import { ask } from "../asking.js";
import { t } from "../i18n.js";
import { Answer } from "../parts/answer.js";
import { Note } from "../parts/basics.js";
import { Composer } from "../parts/composer.js";
import { AdapterPicker, Options, useChoices } from "../parts/options.js";
import { personal } from "../store.js";
import { html, useEffect } from "../vendor/preact-htm.js";

const compared = personal({ draft: "", question: null, picked: null, answers: [], abort: null });

async function send() {
  const { draft, picked } = compared.get();
  const question = draft.trim();
  const abort = new AbortController();
  compared.set({ question, abort, answers: picked.map(() => ({ text: "" })) });
  const told = (column) => (change) =>
    compared.set(({ answers }) => ({ answers: answers.map((each, index) => (index === column ? { ...each, ...change } : each)) }));
  await Promise.all(picked.map((adapter, column) => ask(question, { adapter, signal: abort.signal }, told(column))));
  compared.set({ abort: null });
}

const pick = (column, value) =>
  compared.set(({ picked }) => ({ picked: picked.map((each, index) => (index === column ? value : each)), answers: [], question: null }));

// base, then the first adapters that are active.
const firstPick = (found) => ["base", ...found.found.filter((each) => each.active).map((each) => each.value)].slice(0, 3);

function Agreement({ answers }) {
  if (answers.length < 2 || !answers.every((each) => each.done)) return null;
  const said = answers.map(({ done }) => (done.abstained ? "" : done.answer.trim().toLowerCase()));
  const same = said.every((each) => each === said[0]);
  return html`<${Note} kind=${same ? "good" : ""} role="status">${t(same ? "compare.same" : "compare.differ")}<//>`;
}

export function Compare() {
  const { draft, question, picked, answers, abort } = compared.use();
  const found = useChoices();
  useEffect(() => {
    if (found && !picked) compared.set({ picked: firstPick(found).length > 1 ? firstPick(found) : ["base", "base"] });
  }, [found]);
  const columns = picked ?? [];
  const names = { base: t("adapter.base") };
  return html`
    ${found?.found.length === 0 && html`<${Note}>${t("compare.none")} <a href="#/adapters">${t("nav.adapters")}</a><//>`}
    <${Composer} value=${draft} onInput=${(value) => compared.set({ draft: value })} onSend=${send} busy=${abort !== null}
      onStop=${() => abort?.abort()} label=${t("compare.question")} action=${t("compare.send")} />
    <${Options} />
    ${question && html`<h2 class="question break">${question}</h2>`}
    <${Agreement} answers=${answers} />
    <div class="columns">
      ${columns.map((value, column) => html`<section key=${column} class="card stack" aria-label=${names[value] ?? value}>
        <div class="row">
          <div class="grow"><${AdapterPicker} found=${found} value=${value} withDefault=${false} label=${t("compare.column", { number: column + 1 })}
            onChange=${(chosen) => pick(column, chosen)} /></div>
        </div>
        ${answers[column] ? html`<${Answer} turn=${answers[column]} compact />` : html`<p class="soft">${t("compare.waiting")}</p>`}
      </section>`)}
    </div>
    <div class="row">
      ${columns.length < 3 && html`<button class="compact" onClick=${() => compared.set({ picked: [...columns, "base"], answers: [], question: null })}>${t("compare.add")}</button>`}
      ${columns.length > 2 && html`<button class="compact" onClick=${() => compared.set({ picked: columns.slice(0, -1), answers: [], question: null })}>${t("compare.fewer")}</button>`}
    </div>`;
}
