// For the admin: tenants and their keys. A key is shown once, when it is made.
import { get, post, remove } from "../api.js";
import { bytes, number, t, when } from "../i18n.js";
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

const key = (listed) => {
  const scopes = listed.scopes.join(", ") + (listed.collections ? ` (${listed.collections.join(", ")})` : "");
  const end = listed.revoked_at ? t("admin.key.revoked", { at: when(listed.revoked_at) })
    : listed.expires_at ? t("admin.key.expires", { at: when(listed.expires_at) }) : "";
  return [listed.name, scopes, end].filter(Boolean).join(" · ");
};

function Keys({ tenant }) {
  const { data, problem, reload } = useLoaded(() => get(`/tenants/${tenant.id}/keys`), [tenant.id]);
  const revoke = async (id) => {
    await attempt(() => remove(`/tenants/${tenant.id}/keys/${id}`), t("admin.revoked"));
    reload();
  };
  return html`<div class="stack">
    ${problem && html`<${Note} kind="bad">${problem.message}<//>`}
    ${data?.keys.map((listed) => html`<div class="row spread" key=${listed.id}>
      <p class="grow small break">${key(listed)}<br /><code class="soft break">${listed.id}</code></p>
      ${!listed.revoked_at && html`<button class="compact bad" aria-label=${t("admin.revoke.one", { key: listed.name || listed.id })} onClick=${() => revoke(listed.id)}>${t("admin.revoke")}</button>`}
    </div>`)}
  </div>`;
}

function Used({ tenant }) {
  const { data, problem } = useLoaded(() => get(`/tenants/${tenant.id}/usage?days=1`), [tenant.id]);
  if (problem || !data) return html`<p class="small soft">${problem ? problem.message : t("loading")}</p>`;
  const { holds, today, limits } = data;
  const of = (used, limit, shown = number) => (limit === null ? shown(used) : t("admin.used.of", { used: shown(used), limit: shown(limit) }));
  return html`<p class="small">${t("admin.used", {
    documents: of(holds.documents, limits.documents),
    bytes: of(holds.bytes, limits.bytes, bytes),
    versions: of(holds.adapter_versions, limits.adapter_versions),
    requests: number(today.requests),
    tokens: of(today.tokens, limits.tokens_per_day),
    minutes: of(today.training_minutes, limits.training_minutes_per_day),
  })}</p>`;
}

function Details({ tenant }) {
  const [open, setOpen] = useState(false);
  return html`<details onToggle=${(event) => setOpen(event.target.open)}><summary class="small">${t("admin.details")}</summary>
    ${open && html`<div class="stack"><${Used} tenant=${tenant} /><${Keys} tenant=${tenant} /></div>`}
  </details>`;
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
      <${Details} tenant=${tenant} />
    </li>`)}</ul>
    ${made && html`<${NewKey} made=${made} onClose=${() => setMade(null)} />`}
    ${leaving && html`<${Confirm} title=${t("admin.delete.title")} text=${t("admin.delete.text", { name: leaving.name })} action=${t("delete")}
      onYes=${async () => {
        await attempt(() => remove(`/tenants/${leaving.id}`), t("admin.deleted"));
        reload();
      }} onClose=${() => setLeaving(null)} />`}
  </div>`;
}
