// The options of a question: which adapter answers, and how passages are found.
import { changedOptions, choices, options, resetOptions } from "../asking.js";
import { get } from "../api.js";
import { t } from "../i18n.js";
import { html } from "../vendor/preact-htm.js";
import { Field, useLoaded } from "./basics.js";

export const useChoices = () => useLoaded(choices, []).data;

export function AdapterPicker({ found, value, onChange, label, withDefault = true }) {
  const known = found?.found ?? [];
  return html`<${Field} label=${label}>${(id) => html`<select id=${id} value=${value} onChange=${(event) => onChange(event.target.value)}>
    ${withDefault && html`<option value="">${t("adapter.default", { name: found?.default ?? "base" })}</option>`}
    <option value="base">${t("adapter.base")}</option>
    ${known.map((each) => html`<option key=${each.value} value=${each.value}>
      ${each.active ? t("adapter.active", { name: each.name, version: each.version }) : each.value}</option>`)}
  </select>`}<//>`;
}

function Entry({ name, type = "number", ...rest }) {
  const chosen = options.use();
  const change = (event) => options.set({ [name]: event.target.value });
  return html`<${Field} label=${t(`option.${name}`)} hint=${rest.hint}>${(id) => html`<input id=${id} type=${type} value=${chosen[name]}
    placeholder=${t("option.unset")} onInput=${change} ...${{ ...rest, hint: undefined }} />`}<//>`;
}

function Choice({ name, values }) {
  const chosen = options.use();
  return html`<${Field} label=${t(`option.${name}`)}>${(id) => html`<select id=${id} value=${chosen[name]}
    onChange=${(event) => options.set({ [name]: event.target.value })}>
    <option value="">${t("option.unset")}</option>
    ${values.map(([value, label]) => html`<option key=${value} value=${value}>${label}</option>`)}
  </select>`}<//>`;
}

// `answering`: also what only matters to an answer, not to a search.
export function Options({ answering = true }) {
  options.use();
  const templates = useLoaded(() => get("/templates"), []).data?.templates ?? [];
  const changed = changedOptions();
  return html`<details class="options">
    <summary>${t("options")}${changed > 0 && html` <span class="chip accent">${t("options.changed", { count: changed })}</span>`}</summary>
    <div class="stack">
      <div class="fields">
        <${Entry} name="top_k" min="1" max="100" />
        <${Choice} name="mode" values=${["hybrid", "dense", "keyword"].map((mode) => [mode, t(`option.mode.${mode}`)])} />
        <${Choice} name="rerank" values=${[["yes", t("yes")], ["no", t("no")]]} />
        <${Entry} name="candidates" min="1" max="200" />
        <${Entry} name="diversity" min="0" max="1" step="0.05" />
        <${Entry} name="expand" min="0" max="5" />
        <${Entry} name="collection" type="text" maxlength="100" />
        ${answering && html`
          <${Entry} name="min_confidence" min="0" max="1" step="0.01" />
          <${Choice} name="template" values=${templates.map(({ name }) => [name, name])} />
          <${Entry} name="max_tokens" min="1" max="4096" />
          <${Entry} name="temperature" min="0" max="2" step="0.1" />`}
      </div>
      <${Entry} name="filter" type="text" placeholder='{"year": {"gte": 2024}}' hint=${t("option.filter.hint")} spellcheck=${false} />
      ${changed > 0 && html`<div><button class="compact" type="button" onClick=${resetOptions}>${t("options.reset")}</button></div>`}
    </div>
  </details>`;
}
