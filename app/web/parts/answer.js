// An answer as it grows: its words, how sure it is, the sentences it rests on, the passages it was read from.
import { number, percent, t } from "../i18n.js";
import { html } from "../vendor/preact-htm.js";
import { Bar, Note, Trouble } from "./basics.js";
import { openDocument } from "./document.js";
import { Feedback } from "./feedback.js";
import { Icon } from "./icons.js";

// Where a passage or citation stands, in words.
export function place({ title, page, section }) {
  const headings = (section ?? "").replace(title, "").replace(/^ > /, "");
  return [page === null ? null : t("page", { number: page }), headings || null].filter(Boolean).join(" · ");
}

const show = (citation) =>
  openDocument({ id: citation.document_id, start: citation.start, end: citation.end, page: citation.page });

// A language model's [n] becomes a button that opens the sentence; everything else is text.
function Words({ text, citations = [] }) {
  return text.split(/(\[\d+\])/).map((part) => {
    const cited = citations.find(({ index }) => part === `[${index}]`);
    return cited
      ? html`<button class="cite" onClick=${() => show(cited)} aria-label=${t("citation.open", { index: cited.index, title: cited.title })}>${cited.index}</button>`
      : part;
  });
}

// The quote with the answer in it marked, where the answer is a part of it.
function Quote({ quote, answer }) {
  const at = answer ? quote.indexOf(answer) : -1;
  if (at < 0 || answer.length >= quote.length) return html`<q>${quote}</q>`;
  return html`<q>${quote.slice(0, at)}<mark>${answer}</mark>${quote.slice(at + answer.length)}</q>`;
}

function Citation({ citation, answer }) {
  const opens = citation.document_id !== null;
  const inside = html`<span class="index" aria-hidden="true">${citation.index}</span>
    <span class="grow"><${Quote} quote=${citation.quote} answer=${answer} />
      <span class="source"><strong>${citation.title}</strong>${place(citation) && html` · ${place(citation)}`}</span></span>
    ${opens && html`<${Icon} name="right" />`}`;
  return html`<li class="citation">${opens
    ? html`<button onClick=${() => show(citation)} aria-label=${t("citation.open", { index: citation.index, title: citation.title })}>${inside}</button>`
    : inside}</li>`;
}

export function Confidence({ value }) {
  return html`<div class="confidence" title=${t("confidence.hint")}>
    <span>${t("confidence")}</span>
    <div class="bar" role="meter" aria-label=${t("confidence")} aria-valuemin="0" aria-valuemax="1" aria-valuenow=${value} aria-valuetext=${percent(value)}>
      <span style=${{ width: `${Math.round(value * 100)}%` }} /></div>
    <strong class="number">${percent(value)}</strong>
  </div>`;
}

const SHORT = 60;
const STAGES = ["dense", "keyword", "fused", "rerank"];

export function Passages({ passages, dropped = [] }) {
  return html`<ol class="passages">${passages.map((passage, index) => html`<li key=${index} class="passage">
    <div class="row spread">
      <strong class="break grow">${index + 1}. ${passage.title}</strong>
      ${passage.document_id && html`<button class="compact bare" onClick=${() => show(passage)}>${t("open")}</button>`}
    </div>
    ${place(passage) && html`<div class="small soft">${place(passage)}</div>`}
    <p class="text">${passage.text}</p>
    <dl class="scores">
      ${passage.score !== null && html`<div><dt>${t("score")}</dt><dd>${number(passage.score, 3)}</dd></div>`}
      ${STAGES.filter((stage) => (passage.scores?.[stage] ?? null) !== null).map((stage) => html`<div key=${stage}>
        <dt>${t(`score.${stage}`)}</dt><dd>${number(passage.scores[stage], 3)}</dd></div>`)}
      ${dropped.includes(index) && html`<div><dd>${t("passage.dropped")}</dd></div>`}
    </dl>
  </li>`)}</ol>`;
}

function Facts({ done, milliseconds }) {
  const timings = Object.entries(done.timings_ms).map(([name, ms]) => `${t(`timing.${name}`)} ${number(ms, 1)} ms`);
  const facts = [
    [t("fact.adapter"), done.adapter ? `${done.adapter.name}@${done.adapter.version} · ${done.adapter.sha256.slice(0, 12)}` : t("adapter.base")],
    [t("fact.time"), `${timings.join(", ")}; ${t("fact.round", { ms: number(milliseconds) })}`],
    [t("fact.tokens"), `${number(done.usage.prompt_tokens)} → ${number(done.usage.completion_tokens)}`],
    done.template && [t("option.template"), done.template],
    done.rewritten_question && [t("fact.rewritten"), done.rewritten_question],
    [t("fact.request"), html`<code class="break">${done.request_id}</code>`],
  ].filter(Boolean);
  return html`<dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd class="break">${value}</dd></div>`)}</dl>`;
}

// One answer. `turn`: what asking.js told so far; `compact`: in a narrow column.
export function Answer({ turn, compact = false }) {
  const { done, problem, stopped, passages, text } = turn;
  const busy = !done && !problem && !stopped;
  const adapter = done && (done.adapter ? `${done.adapter.name}@${done.adapter.version}` : t("adapter.base"));
  return html`<div class="answer ${done?.abstained ? "abstained" : ""}" aria-busy=${busy}>
    ${busy && !text && html`<div class="stack"><${Bar} value=${null} label=${t(passages ? "ask.reading" : "ask.searching")} />
      <span class="soft small">${t(passages ? "ask.reading" : "ask.searching")}</span></div>`}
    ${text && !done?.abstained && html`<p class="words ${text.length < SHORT ? "short" : ""}"><${Words} text=${text} citations=${done?.citations} /></p>`}
    ${done?.abstained && html`<div class="abstention"><${Icon} name="warn" /><div>
      <strong>${t("abstained")}</strong><p class="soft">${t(passages?.length ? "abstained.why" : "abstained.nothing")}</p></div></div>`}
    ${stopped && html`<${Note}>${t("ask.stopped")}<//>`}
    ${problem && html`<${Trouble} problem=${problem} />`}
    ${done && html`
      <div class="row">${passages?.length > 0 && html`<${Confidence} value=${done.confidence} />`}<span class="chip accent">${adapter}</span>
        <span class="chip number">${number(done.timings_ms.total)} ms</span>
        ${done.finish_reason === "length" && html`<span class="chip warn">${t("ask.cut")}</span>`}</div>
      ${done.warnings.map((warning) => html`<${Note} key=${warning} kind="warn">${warning}<//>`)}
      ${done.citations.length > 0 && html`<ol class="citations" aria-label=${t("citations")}>
        ${done.citations.map((citation) => html`<${Citation} key=${citation.index} citation=${citation} answer=${done.answer} />`)}</ol>`}
      <${Feedback} requestId=${done.request_id} />
      ${passages?.length > 0 && html`<details open=${done.abstained && !compact}><summary>${t("passages", { count: passages.length })}</summary>
        <${Passages} passages=${passages} dropped=${done.dropped_passages} /></details>`}
      <details><summary>${t("facts")}</summary><${Facts} done=${done} milliseconds=${turn.milliseconds} /></details>`}
  </div>`;
}
