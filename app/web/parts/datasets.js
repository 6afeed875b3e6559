// Training sets: those there are, and one made from the tenant's own documents.
import { followJob, get, post, remove, request } from "../api.js";
import { number, t, when } from "../i18n.js";
import { has } from "../session.js";
import { html, useState } from "../vendor/preact-htm.js";
import { attempt, download, Field, JobBar, Trouble, useLoaded } from "./basics.js";
import { Icon } from "./icons.js";

async function keep({ id, name }) {
  const response = await request("GET", `/datasets/${id}/examples`);
  download(await response.blob(), `${name ?? id.slice(0, 12)}.jsonl`);
}

function Build({ onEnd }) {
  const [name, setName] = useState("");
  const [limit, setLimit] = useState("500");
  const [job, setJob] = useState(null);
  const [problem, setProblem] = useState(null);
  const build = async (event) => {
    event.preventDefault();
    setProblem(null);
    try {
      const { id } = await post("/datasets/build", { name: name.trim() || undefined, limit: Number(limit) });
      const ended = await followJob(id, setJob);
      if (ended.error) setProblem(ended.error);
      onEnd();
    } catch (error) {
      setProblem(error);
    }
    setJob(null);
  };
  return html`<form class="stack" onSubmit=${build}>
    <p class="soft">${t("datasets.text")}</p>
    <div class="fields">
      <${Field} label=${t("datasets.name")}>${(id) => html`<input id=${id} type="text" maxlength="63" spellcheck=${false} value=${name} onInput=${(event) => setName(event.target.value)} />`}<//>
      <${Field} label=${t("datasets.limit")}>${(id) => html`<input id=${id} type="number" min="1" max="10000" required value=${limit} onInput=${(event) => setLimit(event.target.value)} />`}<//>
    </div>
    ${job && html`<div class="row"><div class="grow"><${JobBar} job=${job} label=${t("datasets.building")} /></div>
      <button type="button" class="compact" onClick=${() => attempt(() => post(`/jobs/${job.id}/cancel`))}>${t("cancel")}</button></div>`}
    ${problem && html`<${Trouble} problem=${problem} />`}
    <div><button class="first" disabled=${job !== null}>${t("datasets.build")}</button></div>
  </form>`;
}

export function Datasets() {
  const there = has("get", "/datasets");
  const { data, reload } = useLoaded(async () => (there ? get("/datasets") : { datasets: [] }), []);
  const act = async (action, said) => {
    await attempt(action, said);
    reload();
  };
  if (!there) return null;
  return html`<section class="card stack" aria-label=${t("datasets")}><details><summary>${t("datasets")} (${number(data?.total ?? 0)})</summary><div class="stack">
    ${data?.datasets.length > 0 && html`<div class="scroll" tabindex="0" role="group" aria-label=${t("datasets")}><table class="cards">
      <thead><tr><th>${t("adapters.name")}</th><th>${t("datasets.source")}</th><th class="right">${t("datasets.examples")}</th><th>${t("documents.added")}</th><th><span class="visually-hidden">${t("actions")}</span></th></tr></thead>
      <tbody>${data.datasets.map((each) => html`<tr key=${each.id}>
        <th scope="row" class="break">${each.name ?? each.id.slice(0, 12)}${each.warnings.map((warning) => html`<div class="small soft" key=${warning}>${warning}</div>`)}</th>
        <td>${t(`datasets.${each.source}`)}</td><td class="right number">${number(each.examples)}</td><td class="small soft">${when(each.created_at)}</td>
        <td class="right"><span class="row actions"><button class="compact" onClick=${() => attempt(() => keep(each))}>${t("datasets.download")}</button>
          <button class="compact bare only-icon" aria-label=${t("documents.delete", { title: each.name ?? each.id.slice(0, 12) })} title=${t("delete")} onClick=${() => act(() => remove(`/datasets/${each.id}`), t("datasets.deleted"))}><${Icon} name="trash" /></button></span></td>
      </tr>`)}</tbody></table></div>`}
    ${has("post", "/datasets/build") && html`<${Build} onEnd=${reload} />`}
  </div></details></section>`;
}
