// Health: can it answer, what waits, what is in memory, how long answers take.
import { get } from "../api.js";
import { number, t, when } from "../i18n.js";
import { Loading, Trouble, useLoaded, useRepeated } from "../parts/basics.js";
import { BarChart } from "../parts/charts.js";
import { Live, take } from "../parts/live.js";
import { Usage } from "../parts/usage.js";
import { has, may, session } from "../session.js";
import { readMetrics } from "../metrics.js";
import { html } from "../vendor/preact-htm.js";

async function readiness() {
  const response = await fetch(new URL("../../readyz", import.meta.url));
  return response.json();
}

async function latestJobs() {
  const [latest, queued, running] = await Promise.all(["limit=8", "limit=1&state=queued", "limit=1&state=running"].map((query) => get(`/jobs?${query}`)));
  return { latest: latest.jobs, queued: queued.total, running: running.total };
}

async function versionsOfAll() {
  const { adapters } = await get("/adapters");
  return adapters.flatMap(({ name, versions }) => versions.map((version) => ({ ...version, name })));
}

// What a tenant sees: what its key opens of documents, jobs and adapters.
async function ofTenant() {
  const everything = session.get().collections === null;
  const [documents, jobs, versions] = await Promise.all([
    may("ask", "ingest") ? get("/documents?limit=1") : null,
    everything && may("ingest", "train") ? latestJobs() : null,
    may("ask", "train") ? versionsOfAll() : null,
  ]);
  return { documents, jobs, versions, resident: versions?.filter(({ state }) => state === "resident") };
}

async function load() {
  if (session.get().role === "tenant") {
    const [ready, own] = await Promise.all([readiness(), ofTenant()]);
    return { ready, ...own };
  }
  const [ready, metrics] = await Promise.all([readiness(), readMetrics()]);
  take(metrics);
  return { ready, metrics };
}

const Fact = ({ label, value, kind = "" }) => html`<div class="card fact"><dt>${label}</dt><dd class=${kind}>${value}</dd></div>`;
const JOB = { succeeded: "good", failed: "bad", running: "accent", queued: "", cancelled: "" };

const mega = (value) => `${number(value / 1e6)} MB`;
const milliseconds = (value) => (value === null ? "–" : `${number(1000 * value, value < 0.1 ? 1 : 0)} ms`);

// `named`: words for a row's label, where it has some.
function Seconds({ title, rows, named = (group) => group }) {
  const told = rows.filter(({ count }) => count > 0).sort((a, b) => b.count - a.count).slice(0, 10);
  if (told.length === 0) return null;
  const most = Math.max(...told.map(({ p95 }) => 1000 * p95)) || 1;
  return html`<section class="card stack"><h2>${title}</h2>
    <${BarChart} label=${t("health.p95", { title })} most=${most} unit=" ms" digits=${most < 100 ? 1 : 0} rows=${told.map(({ group, p95 }) => ({ name: named(group), value: 1000 * p95 }))} />
    <p class="small soft">${t("health.p95", { title })}</p>
    <div class="scroll" tabindex="0" role="group" aria-label=${title}><table><thead><tr><th>${title}</th>${["count", "p50", "p95"].map((name) => html`<th class="right" key=${name}>${t(`health.${name}.short`)}</th>`)}</tr></thead>
    <tbody>${told.map(({ group, count, p50, p95 }) => html`<tr key=${group}><th scope="row" class="break">${named(group)}</th><td class="right number">${number(count)}</td><td class="right number">${milliseconds(p50)}</td><td class="right number">${milliseconds(p95)}</td></tr>`)}</tbody></table></div>
  </section>`;
}

// What the admin sees of the whole service: queue, batches, memory, and how long answers take.
function Figures({ metrics: { value, seconds } }) {
  const steps = value("engine_steps_total");
  return html`<dl class="facts-grid">
      <${Fact} label=${t("health.waiting")} value=${number(value("engine_rows", { state: "waiting" }))} />
      <${Fact} label=${t("health.answering")} value=${number(value("engine_rows", { state: "running" }))} />
      <${Fact} label=${t("health.batch")} value=${steps ? number(value("engine_step_rows_total") / steps, 1) : "–"} />
      <${Fact} label=${t("health.resident")} value=${number(value("adapters_resident"))} />
      <${Fact} label=${t("health.adapter.memory")} value=${`${mega(value("adapters_resident_bytes"))} / ${mega(value("adapters_budget_bytes"))}`} />
      <${Fact} label=${t("health.answered")} value=${number(value("asks_total"))} />
    </dl>
    <${Live} />
    <${Seconds} title=${t("health.stages")} rows=${seconds("ask_stage_seconds", "stage")} named=${(stage) => t(`timing.${stage}`)} />
    <${Seconds} title=${t("health.routes")} rows=${seconds("http_request_seconds", "route")} />`;
}

export function Health() {
  const { data, problem, reload } = useLoaded(load, []);
  useRepeated(reload, 3);
  return html`<div class="view">
    <header><div><h1>${t("health.title")}</h1><p>${t("health.lead")}</p></div></header>
    ${problem && html`<${Trouble} problem=${problem} />`}
    ${!data && !problem && html`<${Loading} />`}
    ${data && html`<dl class="facts-grid">
      <${Fact} label=${t("health.state")} value=${data.ready.ready ? t("health.ready") : data.ready.reason} kind=${data.ready.ready ? "is-good" : "is-bad"} />
      <${Fact} label=${t("health.model")} value=${data.ready.model} />
      ${data.documents && html`<${Fact} label=${t("health.documents")} value=${number(data.documents.total)} />`}
      ${data.jobs && html`
        <${Fact} label=${t("health.running")} value=${number(data.jobs.running)} />
        <${Fact} label=${t("health.queued")} value=${number(data.jobs.queued)} />`}
      ${data.versions && html`<${Fact} label=${t("health.resident")} value=${`${number(data.resident.length)} / ${number(data.versions.length)}`} />`}
    </dl>
    ${data.metrics && html`<${Figures} metrics=${data.metrics} />`}
    ${session.get().role === "tenant" && has("get", "/usage") && html`<section class="card stack"><h2>${t("usage.own")}</h2><${Usage} load=${() => get("/usage?days=14")} /></section>`}
    ${data.resident?.length > 0 && html`<section class="card stack"><h2>${t("health.memory")}</h2><div class="row">
      ${data.resident.map((each) => html`<span class="chip accent" key=${each.sha256}>${each.name}@${each.version}</span>`)}</div></section>`}
    ${data.jobs?.latest.length > 0 && html`<section class="card stack"><h2>${t("health.jobs")}</h2>
      <table class="cards"><thead><tr><th>${t("health.kind")}</th><th>${t("documents.status")}</th><th class="right">${t("health.done")}</th><th>${t("documents.added")}</th></tr></thead>
      <tbody>${data.jobs.latest.map((job) => html`<tr key=${job.id}><th scope="row">${t(`job.${job.kind}`)}</th><td><span class="chip ${JOB[job.state]}">${t(`job.state.${job.state}`)}</span> ${job.error && html`<span class="small problem">${job.error}</span>`}</td>
        <td class="right number">${number(job.progress.done)} / ${number(job.progress.total)}</td><td class="small soft">${when(job.created_at)}</td></tr>`)}</tbody></table></section>`}`}
  </div>`;
}
