// Passages only: what a question would be answered from, with what each stage of retrieval gave them.
import { searchFields } from "../asking.js";
import { post } from "../api.js";
import { number, t } from "../i18n.js";
import { Passages } from "../parts/answer.js";
import { Empty, Trouble } from "../parts/basics.js";
import { Composer } from "../parts/composer.js";
import { Options } from "../parts/options.js";
import { personal } from "../store.js";
import { html } from "../vendor/preact-htm.js";

const searched = personal({ draft: "", passages: null, problem: null, busy: false, milliseconds: 0 });

async function send() {
  const began = performance.now();
  searched.set({ busy: true, problem: null });
  try {
    const { passages } = await post("/search", { query: searched.get().draft.trim(), ...searchFields() });
    searched.set({ passages, milliseconds: performance.now() - began });
  } catch (error) {
    searched.set({ problem: error, passages: null });
  }
  searched.set({ busy: false });
}

export function Search() {
  const { draft, passages, problem, busy, milliseconds } = searched.use();
  return html`
    <${Composer} value=${draft} onInput=${(value) => searched.set({ draft: value })} onSend=${send} busy=${false}
      label=${t("search.query")} action=${t("search.send")} />
    <${Options} answering=${false} />
    <div aria-live="polite" aria-busy=${busy} class="stack">
      ${problem && html`<${Trouble} problem=${problem} />`}
      ${passages?.length === 0 && html`<div class="card"><${Empty} title=${t("search.nothing")} /></div>`}
      ${passages?.length > 0 && html`<p class="soft small">${t("search.found", { count: passages.length, ms: number(milliseconds) })}</p>
        <div class="card"><${Passages} passages=${passages} /></div>`}
    </div>`;
}
