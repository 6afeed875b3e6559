// For the admin: tenants, with what each has, may and did, and its keys.
import { get, post, remove } from "../api.js";
import { t, when } from "../i18n.js";
import { Audit } from "../parts/audit.js";
import { attempt, Confirm, Empty, Field, Loading, Trouble, useLoaded } from "../parts/basics.js";
import { Icon } from "../parts/icons.js";
import { Keys, NewKey } from "../parts/keys.js";
import { Limits } from "../parts/limits.js";
import { Usage } from "../parts/usage.js";
import { html, useState } from "../vendor/preact-htm.js";

function Details({ tenant }) {
  const [open, setOpen] = useState(false);
  const [set, setSet] = useState(0);
  return html`<details onToggle=${(event) => event.target === event.currentTarget && setOpen(event.target.open)}><summary class="small">${t("admin.details")}</summary>
    ${open && html`<div class="stack">
      <h3>${t("usage")}</h3><${Usage} load=${() => get(`/tenants/${tenant.id}/usage?days=14`)} inputs=${[tenant.id, set]} />
      <${Limits} tenant=${tenant} onSet=${() => setSet(set + 1)} />
      <h3>${t("keys")}</h3><${Keys} path=${`/tenants/${tenant.id}/keys`} name=${tenant.name} />
      <${Audit} tenant=${tenant} />
    </div>`}
  </details>`;
}

export function Admin() {
  const { data, problem, reload } = useLoaded(() => get("/tenants"), []);
  const [name, setName] = useState("");
  const [made, setMade] = useState(null);
  const [leaving, setLeaving] = useState(null);
  const create = async (event) => {
    event.preventDefault();
    const done = await attempt(async () => {
      const { name: given, api_key } = await post("/tenants", { name: name.trim() });
      setMade({ name: given, api_key });
    }, t("admin.created"));
    if (done) setName("");
    reload();
  };
  return html`<div class="view">
    <header><div><h1>${t("admin.title")}</h1><p>${t("admin.lead")}</p></div></header>
    <form class="card row" onSubmit=${create}>
      <div class="grow"><${Field} label=${t("admin.new")}>${(id) => html`<input id=${id} type="text" maxlength="100" value=${name} onInput=${(event) => setName(event.target.value)} />`}<//></div>
      <button class="first align-end" disabled=${!name.trim()}><${Icon} name="add" />${t("admin.create")}</button>
    </form>
    ${problem && html`<${Trouble} problem=${problem} />`}
    ${!data && !problem && html`<${Loading} />`}
    ${data?.tenants.length === 0 && html`<div class="card"><${Empty} title=${t("admin.none")} /></div>`}
    <ul class="stack">${data?.tenants.map((tenant) => html`<li class="card stack" key=${tenant.id}>
      <div class="row spread">
        <div class="grow"><h2 class="break">${tenant.name}</h2><p class="small soft break">${when(tenant.created_at)} · <code>${tenant.id}</code></p></div>
        <button class="compact bare only-icon" aria-label=${t("documents.delete", { title: tenant.name })} title=${t("delete")} onClick=${() => setLeaving(tenant)}><${Icon} name="trash" /></button>
      </div>
      <${Details} tenant=${tenant} />
    </li>`)}</ul>
    <details class="card"><summary>${t("admin.own")}</summary><div class="stack"><p class="soft">${t("admin.own.text")}</p>
      <${Keys} path="/keys" name=${t("admin.own.name")} scoped=${false} /></div></details>
    ${made && html`<${NewKey} made=${made} onClose=${() => setMade(null)} />`}
    ${leaving && html`<${Confirm} title=${t("admin.delete.title")} text=${t("admin.delete.text", { name: leaving.name })} action=${t("delete")}
      onYes=${async () => {
        await attempt(() => remove(`/tenants/${leaving.id}`), t("admin.deleted"));
        reload();
      }} onClose=${() => setLeaving(null)} />`}
  </div>`;
}
