// Ask: a conversation, the same question under several adapters, or passages only.
import { ask } from "../asking.js";
import { get } from "../api.js";
import { t, told } from "../i18n.js";
import { Answer } from "../parts/answer.js";
import { Empty, useLoaded } from "../parts/basics.js";
import { Composer } from "../parts/composer.js";
import { Icon } from "../parts/icons.js";
import { AdapterPicker, Options, useChoices } from "../parts/options.js";
import { personal } from "../store.js";
import { html, useEffect, useRef } from "../vendor/preact-htm.js";
import { Compare } from "./compare.js";
import { Search } from "./search.js";

const HISTORY = 10; // turns that a question carries with it

// Kept while other views are looked at; gone with the tab.
const conversation = personal({ mode: "ask", adapter: "", draft: "", turns: [], abort: null });

const update = (id, change) =>
  conversation.set(({ turns }) => ({ turns: turns.map((turn) => (turn.id === id ? { ...turn, ...change } : turn)) }));

function history() {
  return conversation
    .get()
    .turns.filter((turn) => turn.done)
    .slice(-HISTORY)
    .map((turn) => ({ question: turn.question, answer: turn.done.answer }));
}

async function send() {
  const { draft, adapter, turns } = conversation.get();
  const question = draft.trim();
  const abort = new AbortController();
  const earlier = history();
  const id = (turns.at(-1)?.id ?? 0) + 1;
  conversation.set({ draft: "", abort, turns: [...turns, { id, question, text: "" }] });
  await ask(question, { adapter, history: earlier, signal: abort.signal }, (change) => update(id, change));
  conversation.set({ abort: null });
}

// For a screen reader: what happens, and the whole answer once, rather than every piece of it.
function spoken(turn) {
  if (!turn) return "";
  if (turn.problem) return told(turn.problem).text;
  if (turn.done) return turn.done.abstained ? t("abstained") : t("ask.said", { answer: turn.done.answer });
  return t(turn.passages ? "ask.reading" : "ask.searching");
}

function Conversation() {
  const { turns, draft, adapter, abort } = conversation.use();
  const found = useChoices();
  const documents = useLoaded(() => get("/documents?limit=1&status=ready"), []).data;
  const last = useRef(null);
  useEffect(() => {
    last.current?.scrollIntoView({ block: "nearest", behavior: "smooth" });
  }, [turns.length, turns.at(-1)?.done]);
  const composer = html`<${Composer} value=${draft} onInput=${(value) => conversation.set({ draft: value })} onSend=${send}
    busy=${abort !== null} onStop=${() => abort?.abort()} rows=${turns.length ? 1 : 2} label=${t(turns.length ? "ask.followup" : "ask.question")}>
    <div class="grow"><${AdapterPicker} found=${found} value=${adapter} label=${t("adapter.pick")} onChange=${(value) => conversation.set({ adapter: value })} /></div>
  <//>`;
  return html`
    ${turns.length === 0 && documents?.total === 0 && html`<div class="card"><${Empty} title=${t("ask.empty")}>
      <p>${t("ask.empty.text")}</p><a class="button" href="#/documents">${t("ask.empty.go")}</a><//></div>`}
    <ol class="turns">${turns.map((turn, index) => html`<li key=${turn.id} ref=${index === turns.length - 1 ? last : undefined}>
      <h2 class="question break">${turn.question}</h2>
      <div class="card"><${Answer} turn=${turn} /></div></li>`)}</ol>
    <div class="visually-hidden" role="status" aria-live="polite">${spoken(turns.at(-1))}</div>
    ${composer}
    <${Options} />`;
}

export function Ask() {
  const { mode, turns, abort } = conversation.use();
  const modes = { ask: Conversation, compare: Compare, search: Search };
  const Mode = modes[mode];
  return html`<div class="view">
    <header>
      <div><h1>${t(`ask.title.${mode}`)}</h1><p>${t(`ask.lead.${mode}`)}</p></div>
    </header>
    <div class="row spread">
      <div class="segments" role="group" aria-label=${t("ask.modes")}>
        ${Object.keys(modes).map((name) => html`<button key=${name} aria-pressed=${name === mode}
          onClick=${() => conversation.set({ mode: name })}>${t(`ask.mode.${name}`)}</button>`)}
      </div>
      ${mode === "ask" && turns.length > 0 && html`<button class="compact bare" disabled=${abort !== null}
        onClick=${() => conversation.set({ turns: [] })}><${Icon} name="add" />${t("ask.new")}</button>`}
    </div>
    <${Mode} />
  </div>`;
}
