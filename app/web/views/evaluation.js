// Evaluation: a question set asked with and without documents and adapter, side by side, and what gates decided.
import { followJob, get, post, remove, request } from "../api.js";
import { number, percent, t, when } from "../i18n.js";
import { attempt, Confirm, download, Empty, Field, JobBar, Note, Trouble, useLoaded } from "../parts/basics.js";
import { EvaluationCharts, nameOf } from "../parts/evaluation-charts.js";
import { Icon } from "../parts/icons.js";
import { AdapterPicker, useChoices } from "../parts/options.js";
import { QuestionFile, readQuestions } from "../parts/question-set.js";
import { Verdict } from "../parts/verdict.js";
import { html, useEffect, useState } from "../vendor/preact-htm.js";

const STATE = { succeeded: "good", failed: "bad", running: "accent" };
const share = (value) => (value === null || value === undefined ? "–" : percent(value));
const points = (value) => (value === null || value === undefined ? "–" : number(value, 1));

function Table({ ways }) {
  return html`<div class="scroll" tabindex="0" role="group" aria-label=${t("evaluation.table")}><table>
    <thead><tr><th>${t("evaluation.way")}</th>${["em", "f1", "recall", "cited", "abstained", "p50", "tokens"].map((name) => html`<th class="right" key=${name}>${t(`evaluation.${name}`)}</th>`)}</tr></thead>
    <tbody>${ways.map(({ way, adapter, figures, impossible }) => html`<tr key=${way}><th scope="row"><strong>${nameOf(way)}</strong><div class="small soft">${adapter}</div></th>
      ${figures ? html`<td class="right number">${points(figures.em)}</td><td class="right number">${points(figures.f1)} <span class="small soft">[${points(figures.f1_low)}, ${points(figures.f1_high)}]</span></td>
        <td class="right number">${share(figures.recall?.["5"])}</td><td class="right number">${share(figures.citation_correct)}</td><td class="right number">${share(figures.abstained)}</td>
        <td class="right number">${number(figures.p50_ms)} ms</td><td class="right number">${number(figures.tokens)}</td>`
      : html`<td colspan="7" class="soft small">${impossible ?? ""}</td>`}</tr>`)}</tbody></table></div>`;
}

// By how much one way is better than another, with the paired interval: the difference is real where that leaves out 0.
function Differences({ list }) {
  if (list.length === 0) return null;
  return html`<ul class="stack small">${list.map(({ first, second, f1, low, high }) => html`<li key=${`${first} ${second}`}>
    ${t("evaluation.difference", { first: nameOf(first), second: nameOf(second), points: points(f1), low: points(low), high: points(high) })}</li>`)}</ul>`;
}

async function report({ id, name }, format, ending) {
  const response = await request("GET", `/evaluations/${id}/report?format=${format}`);
  download(await response.blob(), `${(name || "evaluation").replace(/\.json$/, "")}.${ending}`);
}

function Result({ id, onEnd, onDelete }) {
  const { data, problem, reload } = useLoaded(() => get(`/evaluations/${id}`), [id]);
  const [job, setJob] = useState(null);
  const running = data && ["queued", "running"].includes(data.state);
  useEffect(() => {
    if (!running) return undefined;
    const abort = new AbortController();
    followJob(data.job_id, setJob, abort.signal).then(() => {
      reload();
      onEnd();
    }, () => {});
    return () => abort.abort();
  }, [running, id]);
  if (problem) return html`<${Trouble} problem=${problem} />`;
  if (!data) return null;
  return html`<section class="card stack" aria-label=${data.name || t("evaluation.result")}>
    <div class="row spread"><h2 class="break">${data.name || t("evaluation.result")}</h2><span class="chip ${STATE[data.state] ?? ""}">${t(`job.state.${data.state}`)}</span></div>
    ${running && html`<${JobBar} job=${job} label=${t("evaluation.asking")} />`}
    ${data.error && html`<${Trouble} problem=${data.error} />`}
    ${data.gate && html`<${Verdict} gate=${data.gate} />`}
    ${data.recommendation && html`<${Note} kind="good">${data.recommendation.text}<//>`}
    ${data.ways.length > 0 && html`<${EvaluationCharts} ways=${data.ways} /><${Differences} list=${data.differences} /><${Table} ways=${data.ways} />`}
    ${!running && html`<div class="row">
      ${data.state === "succeeded" && [["html", "html"], ["markdown", "md"]].map(([format, ending]) => html`<button key=${format} class="compact" onClick=${() => attempt(() => report(data, format, ending))}>
        ${t("evaluation.report", { format: ending.toUpperCase() })}</button>`)}
      <button class="compact bare" onClick=${() => onDelete(data)}><${Icon} name="trash" />${t("delete")}</button></div>`}
  </section>`;
}

function Start({ onStarted }) {
  const found = useChoices();
  const [adapter, setAdapter] = useState("");
  const [file, setFile] = useState(null);
  const [limit, setLimit] = useState("100");
  const start = async (event) => {
    event.preventDefault();
    await attempt(async () => {
      const body = { ...(await readQuestions(file)), name: file.name, limit: limit === "" ? undefined : Number(limit), adapter: adapter || undefined };
      onStarted((await post("/evaluate", body)).evaluation_id);
    }, t("evaluation.started"));
  };
  return html`<form class="card stack" onSubmit=${start}>
    <div class="fields">
      <${QuestionFile} onChange=${setFile} />
      <${AdapterPicker} found=${found} value=${adapter} label=${t("evaluation.adapter")} onChange=${setAdapter} />
      <${Field} label=${t("evaluation.limit")}>${(id) => html`<input id=${id} type="number" min="1" value=${limit} onInput=${(event) => setLimit(event.target.value)} />`}<//>
    </div>
    <div><button class="first" disabled=${!file}>${t("evaluation.start")}</button></div>
  </form>`;
}

export function Evaluation() {
  const { data, problem, reload } = useLoaded(() => get("/evaluations?limit=20"), []);
  const [chosen, setChosen] = useState(null);
  const [leaving, setLeaving] = useState(null);
  const list = data?.evaluations ?? [];
  const current = chosen ?? list[0]?.id;
  return html`<div class="view">
    <header><div><h1>${t("evaluation.title")}</h1><p>${t("evaluation.lead")}</p></div></header>
    <${Start} onStarted=${(id) => {
      setChosen(id);
      reload();
    }} />
    ${problem && html`<${Trouble} problem=${problem} />`}
    ${data && list.length === 0 && html`<div class="card"><${Empty} title=${t("evaluation.none")} /></div>`}
    ${current && html`<${Result} key=${current} id=${current} onEnd=${reload} onDelete=${setLeaving} />`}
    ${list.length > 1 && html`<section class="card stack"><h2>${t("evaluation.earlier")}</h2><ul class="stack">${list.map((each) => html`<li key=${each.id} class="row spread">
      <button class="title" aria-current=${each.id === current ? "true" : undefined} onClick=${() => setChosen(each.id)}>${each.name || each.kind}</button>
      <span class="small soft">${t("evaluation.questions", { count: number(each.questions) })} · ${when(each.created_at)}</span></li>`)}</ul></section>`}
    ${leaving && html`<${Confirm} title=${t("evaluation.delete.title")} text=${t("evaluation.delete.text", { name: leaving.name || t("evaluation.result") })} action=${t("delete")}
      onYes=${async () => {
        if (await attempt(() => remove(`/evaluations/${leaving.id}`), t("evaluation.deleted"))) setChosen(null);
        reload();
      }} onClose=${() => setLeaving(null)} />`}
  </div>`;
}
