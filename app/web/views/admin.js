// For the admin: tenants and their keys. A key is shown once, when it is made.
import { get, post, remove } from "../api.js";
import { t, when } from "../i18n.js";
import { attempt, Confirm, Copy, Dialog, Empty, Field, Loading, Note, useLoaded } from "../parts/basics.js";
import { Icon } from "../parts/icons.js";
import { html, useState } from "../vendor/preact-htm.js";

const NewKey = ({ made, onClose }) => html`<${Dialog} label=${t("admin.key")} onClose=${onClose}>${(close) => html`<div class="inside">
  <h2>${t("admin.key")}</h2>
  <p>${t("admin.key.text", { name: made.name })}</p>
  <p class="secret"><code class="break">${made.api_key}</code></p>
  ${made.key_id && html`<p class="small soft">${t("admin.key.id")} <code class="break">${made.key_id}</code></p>`}
  <div class="row"><${Copy} text=${made.api_key} /><button onClick=${close}>${t("close")}</button></div>
</div>`}<//>`;

function Revoke({ tenant }) {
  const [id, setId] = useState("");
  const revoke = async (event) => {
    event.preventDefault();
    if (await attempt(() => remove(`/tenants/${tenant.id}/keys/${encodeURIComponent(id.trim())}`), t("admin.revoked"))) setId("");
  };
  return html`<details><summary class="small">${t("admin.revoke.open")}</summary><form class="row" onSubmit=${revoke}>
    <div class="grow"><${Field} label=${t("admin.key.id")}>${(field) => html`<input id=${field} type="text" spellcheck=${false} value=${id} onInput=${(event) => setId(event.target.value)} />`}<//></div>
    <button class="compact bad" disabled=${!id.trim()}>${t("admin.revoke")}</button>
  </form></details>`;
}

export function Admin() {
  const { data, problem, reload } = useLoaded(() => get("/tenants"), []);
  const [name, setName] = useState("");
  const [made, setMade] = useState(null);
  const [leaving, setLeaving] = useState(null);
  const create = async (event) => {
    event.preventDefault();
    const done = await attempt(async () => setMade(await post("/tenants", { name: name.trim() })), t("admin.created"));
    if (done) setName("");
    reload();
  };
  const addKey = (tenant) =>
    attempt(async () => {
      const { id, api_key } = await post(`/tenants/${tenant.id}/keys`);
      setMade({ name: tenant.name, api_key, key_id: id });
    });
  return html`<div class="view">
    <header><div><h1>${t("admin.title")}</h1><p>${t("admin.lead")}</p></div></header>
    <form class="card row" onSubmit=${create}>
      <div class="grow"><${Field} label=${t("admin.new")}>${(id) => html`<input id=${id} type="text" maxlength="100" value=${name} onInput=${(event) => setName(event.target.value)} />`}<//></div>
      <button class="first align-end" disabled=${!name.trim()}><${Icon} name="add" />${t("admin.create")}</button>
    </form>
    ${problem && html`<${Note} kind="bad">${problem.message}<//>`}
    ${!data && !problem && html`<${Loading} />`}
    ${data?.tenants.length === 0 && html`<div class="card"><${Empty} title=${t("admin.none")} /></div>`}
    <ul class="stack">${data?.tenants.map((tenant) => html`<li class="card stack" key=${tenant.id}>
      <div class="row spread">
        <div class="grow"><h2 class="break">${tenant.name}</h2><p class="small soft break">${when(tenant.created_at)} · <code>${tenant.id}</code></p></div>
        <div class="row">
          <button class="compact" onClick=${() => addKey(tenant)}><${Icon} name="key" />${t("admin.add")}</button>
          <button class="compact bare only-icon" aria-label=${t("documents.delete", { title: tenant.name })} title=${t("delete")} onClick=${() => setLeaving(tenant)}><${Icon} name="trash" /></button>
        </div>
      </div>
      <${Revoke} tenant=${tenant} />
    </li>`)}</ul>
    ${made && html`<${NewKey} made=${made} onClose=${() => setMade(null)} />`}
    ${leaving && html`<${Confirm} title=${t("admin.delete.title")} text=${t("admin.delete.text", { name: leaving.name })} action=${t("delete")}
      onYes=${async () => {
        await attempt(() => remove(`/tenants/${leaving.id}`), t("admin.deleted"));
        reload();
      }} onClose=${() => setLeaving(null)} />`}
  </div>`;
}
