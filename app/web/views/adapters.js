// Adapters: their versions, which one answers, promote, roll back, try out, upload; training and its sets.
import { call, get, post, remove, request } from "../api.js";
import { bytes, day, number, t, when } from "../i18n.js";
import { attempt, Confirm, download, Empty, Field, Loading, Trouble, useLoaded } from "../parts/basics.js";
import { Datasets } from "../parts/datasets.js";
import { Icon } from "../parts/icons.js";
import { Lineage } from "../parts/lineage.js";
import { Training } from "../parts/training.js";
import { Trial } from "../parts/trial.js";
import { has } from "../session.js";
import { html, useState } from "../vendor/preact-htm.js";

async function keep(name, version) {
  const response = await request("GET", `/adapters/${name}/versions/${version}/export`);
  download(await response.blob(), `${name}-${version}.zip`);
}

function Versions({ adapter, act, onDelete }) {
  return html`<table class="cards">
    <thead><tr><th>${t("adapters.version")}</th><th>${t("adapters.state")}</th><th class="right">${t("adapters.rank")}</th><th class="right">${t("documents.size")}</th><th>${t("documents.added")}</th><th>SHA-256</th><th><span class="visually-hidden">${t("actions")}</span></th></tr></thead>
    <tbody>${[...adapter.versions].reverse().map((each) => html`<tr key=${each.version}>
      <th scope="row"><strong>${adapter.name}@${each.version}</strong> ${each.version === adapter.active && html`<span class="chip good">${t("adapters.active")}</span>`}</th>
      <td><span class="chip ${each.state === "resident" ? "accent" : ""}" title=${t(`adapters.${each.state}.hint`)}>${t(`adapters.${each.state}`)}</span></td>
      <td class="right number soft">${[each.kind, each.rank && `r ${number(each.rank)}`].filter(Boolean).join(" ")}</td><td class="right number soft">${bytes(each.bytes)}</td>
      <td class="soft small date" title=${when(each.created_at)}>${day(each.created_at)}</td><td><code class="soft">${each.sha256.slice(0, 12)}</code></td>
      <td class="right"><span class="row actions">${has("post", "/adapters/{name}/pin") && html`<button class="compact bare" aria-pressed=${each.pinned} title=${t("adapters.pin.hint")} onClick=${() =>
        act(() => post(`/adapters/${adapter.name}/pin`, { version: each.version, pinned: !each.pinned }))}>${t("adapters.pin")}</button>`}
        ${each.version !== adapter.active && html`<button class="compact" onClick=${() =>
        act(() => post(`/adapters/${adapter.name}/promote`, { version: each.version }), t("adapters.promoted", { name: `${adapter.name}@${each.version}` }))}>${t("adapters.promote")}</button>`}
        <button class="compact bare" aria-label=${t("adapters.export.one", { name: `${adapter.name}@${each.version}` })} onClick=${() => attempt(() => keep(adapter.name, each.version))}>${t("adapters.export")}</button>
        ${each.version !== adapter.active && html`<button class="compact bare only-icon" title=${t("delete")} aria-label=${t("documents.delete", { title: `${adapter.name}@${each.version}` })}
          onClick=${() => onDelete(adapter.name, each.version)}><${Icon} name="trash" /></button>`}</span></td>
    </tr>`)}</tbody>
  </table>`;
}

function Adapter({ adapter, act, reload, onDelete }) {
  const { name, active } = adapter;
  return html`<section class="card stack" aria-label=${name}>
    <div class="row spread">
      <div class="row"><h2 class="break">${name}</h2>
        ${adapter.default && html`<span class="chip accent">${t("adapters.default")}</span>`}
        ${active === null && html`<span class="chip warn">${t("adapters.inactive")}</span>`}</div>
      <div class="row">
        <button class="compact" onClick=${() => act(() => post(`/adapters/${name}/rollback`), t("adapters.rolled", { name }))}><${Icon} name="retry" />${t("adapters.rollback")}</button>
        ${!adapter.default && html`<button class="compact" onClick=${() => act(() => call("PUT", "/adapters/default", { json: { name } }), t("adapters.defaulted", { name }))}>${t("adapters.make")}</button>`}
        <button class="compact bare only-icon" aria-label=${t("documents.delete", { title: name })} title=${t("delete")} onClick=${() => onDelete(name)}><${Icon} name="trash" /></button>
      </div>
    </div>
    <div class="scroll" tabindex="0" role="group" aria-label=${t("adapters.versions", { name })}><${Versions} adapter=${adapter} act=${act} onDelete=${onDelete} /></div>
    <${Lineage} adapter=${adapter} />
    <${Trial} adapter=${adapter} act=${act} reload=${reload} />
  </section>`;
}

function UploadVersion({ act }) {
  const [name, setName] = useState("");
  const [files, setFiles] = useState([]);
  const [busy, setBusy] = useState(false);
  const send = async (event) => {
    event.preventDefault();
    setBusy(true);
    const form = new FormData();
    for (const file of files) form.append("files", file, file.name);
    const done = await act(() => call("POST", `/adapters/${encodeURIComponent(name.trim())}/versions`, { form }), t("adapters.uploaded"));
    setBusy(false);
    if (done) setFiles([]);
  };
  return html`<details class="card"><summary>${t("adapters.upload")}</summary>
    <form class="stack" onSubmit=${send}>
      <p class="soft">${t("adapters.upload.text")}</p>
      <div class="fields">
        <${Field} label=${t("adapters.name")} hint=${t("adapters.name.hint")}>${(id) => html`<input id=${id} type="text" required maxlength="63" pattern="[a-z0-9][a-z0-9._\\-]*" spellcheck=${false} value=${name} onInput=${(event) => setName(event.target.value)} />`}<//>
        <${Field} label=${t("adapters.files")} hint=${files.map((file) => file.name).join(", ")}>${(id) => html`<input id=${id} type="file" multiple required accept=".json,.safetensors" onChange=${(event) => setFiles([...event.target.files])} />`}<//>
      </div>
      <div><button class="first" disabled=${busy || !name.trim() || files.length === 0}><${Icon} name="upload" />${t("adapters.send")}</button></div>
    </form>
  </details>`;
}

// Before an adapter goes, or one version of it.
function Leaving({ name, version, act, onClose }) {
  const what = version === undefined ? "adapters.delete" : "adapters.version.delete";
  const path = version === undefined ? `/adapters/${name}` : `/adapters/${name}/versions/${version}`;
  return html`<${Confirm} title=${t(`${what}.title`)} text=${t(`${what}.text`, { name: version === undefined ? name : `${name}@${version}` })} action=${t("delete")}
    onYes=${() => act(() => remove(path), t("adapters.deleted"))} onClose=${onClose} />`;
}

export function Adapters() {
  const { data, problem, reload } = useLoaded(() => get("/adapters"), []);
  const [leaving, setLeaving] = useState(null);
  const act = async (action, said) => {
    const done = await attempt(action, said);
    reload();
    return done;
  };
  return html`<div class="view">
    <header><div><h1>${t("adapters.title")}</h1><p>${t("adapters.lead")}</p></div></header>
    ${problem && html`<${Trouble} problem=${problem} />`}
    ${!data && !problem && html`<${Loading} />`}
    ${data && html`
      <section class="card row spread" aria-label=${t("adapters.default")}>
        <p>${t("adapters.now")} <strong>${data.default === "base" ? t("adapter.base") : data.default}</strong></p>
        ${data.default !== "base" && html`<button class="compact" onClick=${() => act(() => call("PUT", "/adapters/default", { json: { name: "base" } }), t("adapters.defaulted", { name: "base" }))}>${t("adapters.base")}</button>`}
      </section>
      ${data.adapters.length === 0 && html`<div class="card"><${Empty} title=${t("adapters.none")}><p>${t("adapters.none.text")}</p><//></div>`}
      ${data.adapters.map((adapter) => html`<${Adapter} key=${adapter.name} adapter=${adapter} act=${act} reload=${reload} onDelete=${(name, version) => setLeaving({ name, version })} />`)}
      <${Training} onEnd=${reload} />
      <${Datasets} />
      <${UploadVersion} act=${act} />`}
    ${leaving && html`<${Leaving} ...${leaving} act=${act} onClose=${() => setLeaving(null)} />`}
  </div>`;
}
