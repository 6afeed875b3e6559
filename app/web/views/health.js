// Health: can it answer, what waits, what is in memory, how long answers take.
import { get } from "../api.js";
import { number, t, when } from "../i18n.js";
import { Loading, Note, useLoaded, useRepeated } from "../parts/basics.js";
import { session } from "../session.js";
import { html } from "../vendor/preact-htm.js";

async function readiness() {
  const response = await fetch(new URL("../../readyz", import.meta.url));
  return response.json();
}

async function load() {
  if (session.get().role === "admin") return { ready: await readiness() };
  const [ready, jobs, adapters, documents] = await Promise.all([readiness(), get("/jobs?limit=8"), get("/adapters"), get("/documents?limit=1")]);
  const [queued, running] = await Promise.all(["queued", "running"].map((state) => get(`/jobs?limit=1&state=${state}`)));
  const versions = adapters.adapters.flatMap((adapter) => adapter.versions.map((version) => ({ ...version, name: adapter.name })));
  return { ready, jobs, documents: documents.total, queued: queued.total, running: running.total, resident: versions.filter((each) => each.state === "resident"), versions };
}

const Fact = ({ label, value, kind = "" }) => html`<div class="card fact"><dt>${label}</dt><dd class=${kind}>${value}</dd></div>`;
const JOB = { succeeded: "good", failed: "bad", running: "accent", queued: "", cancelled: "" };

export function Health() {
  const { data, problem, reload } = useLoaded(load, []);
  useRepeated(reload, 3);
  return html`<div class="view">
    <header><div><h1>${t("health.title")}</h1><p>${t("health.lead")}</p></div></header>
    ${problem && html`<${Note} kind="bad">${problem.message}<//>`}
    ${!data && !problem && html`<${Loading} />`}
    ${data && html`<dl class="facts-grid">
      <${Fact} label=${t("health.state")} value=${data.ready.ready ? t("health.ready") : data.ready.reason} kind=${data.ready.ready ? "is-good" : "is-bad"} />
      <${Fact} label=${t("health.model")} value=${data.ready.model} />
      ${data.jobs && html`
        <${Fact} label=${t("health.documents")} value=${number(data.documents)} />
        <${Fact} label=${t("health.running")} value=${number(data.running)} />
        <${Fact} label=${t("health.queued")} value=${number(data.queued)} />
        <${Fact} label=${t("health.resident")} value=${`${number(data.resident.length)} / ${number(data.versions.length)}`} />`}
    </dl>
    ${data.resident?.length > 0 && html`<section class="card stack"><h2>${t("health.memory")}</h2><div class="row">
      ${data.resident.map((each) => html`<span class="chip accent" key=${each.sha256}>${each.name}@${each.version}</span>`)}</div></section>`}
    ${data.jobs?.jobs.length > 0 && html`<section class="card stack"><h2>${t("health.jobs")}</h2>
      <table class="cards"><thead><tr><th>${t("health.kind")}</th><th>${t("documents.status")}</th><th class="right">${t("health.done")}</th><th>${t("documents.added")}</th></tr></thead>
      <tbody>${data.jobs.jobs.map((job) => html`<tr key=${job.id}><th scope="row">${t(`job.${job.kind}`)}</th><td><span class="chip ${JOB[job.state]}">${t(`job.state.${job.state}`)}</span> ${job.error && html`<span class="small problem">${job.error}</span>`}</td>
        <td class="right number">${number(job.progress.done)} / ${number(job.progress.total)}</td><td class="small soft">${when(job.created_at)}</td></tr>`)}</tbody></table></section>`}`}
  </div>`;
}
