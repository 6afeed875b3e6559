// A tenant's keys: listed, made for what they are for, rotated, revoked. A key is shown once, when it is made.
import { get, post, remove } from "../api.js";
import { t, when } from "../i18n.js";
import { html, useState } from "../vendor/preact-htm.js";
import { attempt, Copy, Dialog, Field, Note, useLoaded } from "./basics.js";
import { Icon } from "./icons.js";

const SCOPES = ["ask", "ingest", "train", "admin"];
const DAY = 86_400_000;

// made: {name, api_key, id}
export const NewKey = ({ made, onClose }) => html`<${Dialog} label=${t("admin.key")} onClose=${onClose}>${(close) => html`<div class="inside">
  <h2>${t("admin.key")}</h2>
  <p>${t("admin.key.text", { name: made.name })}</p>
  <p class="secret"><code class="break">${made.api_key}</code></p>
  ${made.id && html`<p class="small soft">${t("admin.key.id")} <code class="break">${made.id}</code></p>`}
  <div class="row"><${Copy} text=${made.api_key} /><button onClick=${close}>${t("close")}</button></div>
</div>`}<//>`;

function described(key) {
  const scopes = key.scopes.map((scope) => t(`scope.${scope}`)).join(", ") + (key.collections ? ` (${key.collections.join(", ")})` : "");
  const end = key.revoked_at ? t("admin.key.revoked", { at: when(key.revoked_at) })
    : key.expires_at ? t("admin.key.expires", { at: when(key.expires_at) }) : "";
  const used = key.last_used_at ? t("admin.key.used", { at: when(key.last_used_at) }) : t("admin.key.unused");
  return [key.name, scopes, end, used].filter(Boolean).join(" · ");
}

function Make({ tenant, onMade }) {
  const [wanted, setWanted] = useState({ name: "", scopes: ["ask"], collections: "", days: "" });
  const change = (name) => (event) => setWanted({ ...wanted, [name]: event.target.value });
  const toggle = (scope) => () =>
    setWanted({ ...wanted, scopes: wanted.scopes.includes(scope) ? wanted.scopes.filter((each) => each !== scope) : [...wanted.scopes, scope] });
  const make = async (event) => {
    event.preventDefault();
    const collections = wanted.collections.split(",").map((each) => each.trim()).filter(Boolean);
    await attempt(async () => {
      const body = { name: wanted.name.trim(), scopes: wanted.scopes, collections: collections.length ? collections : undefined,
        expires_at: wanted.days === "" ? undefined : new Date(Date.now() + Number(wanted.days) * DAY).toISOString() };
      onMade(await post(`/tenants/${tenant.id}/keys`, body));
    });
  };
  return html`<details><summary>${t("admin.add")}</summary><form class="stack" onSubmit=${make}>
    <div class="fields">
      <${Field} label=${t("key.name")}>${(id) => html`<input id=${id} type="text" maxlength="100" value=${wanted.name} onInput=${change("name")} />`}<//>
      <${Field} label=${t("key.collections")} hint=${t("key.collections.hint")}>${(id) => html`<input id=${id} type="text" value=${wanted.collections} placeholder=${t("all")} onInput=${change("collections")} />`}<//>
      <${Field} label=${t("key.days")}>${(id) => html`<input id=${id} type="number" min="0.01" max="3650" step="any" value=${wanted.days} placeholder=${t("key.days.unset")} onInput=${change("days")} />`}<//>
    </div>
    <fieldset class="row"><legend class="small soft">${t("key.scopes")}</legend>${SCOPES.map((scope) => html`<label key=${scope} class="check"><input type="checkbox" checked=${wanted.scopes.includes(scope)} onChange=${toggle(scope)} />${t(`scope.${scope}`)}</label>`)}</fieldset>
    <div><button class="first" disabled=${wanted.scopes.length === 0}><${Icon} name="key" />${t("key.make")}</button></div>
  </form></details>`;
}

export function Keys({ tenant }) {
  const { data, problem, reload } = useLoaded(() => get(`/tenants/${tenant.id}/keys`), [tenant.id]);
  const [made, setMade] = useState(null);
  const show = (key) => {
    setMade({ ...key, name: tenant.name });
    reload();
  };
  const revoke = async (id) => {
    await attempt(() => remove(`/tenants/${tenant.id}/keys/${id}`), t("admin.revoked"));
    reload();
  };
  return html`<div class="stack">
    ${problem && html`<${Note} kind="bad">${problem.message}<//>`}
    ${data?.keys.map((key) => html`<div class="row spread" key=${key.id}>
      <p class="grow small break">${described(key)}<br /><code class="soft break">${key.id}</code></p>
      ${!key.revoked_at && html`<div class="row">
        ${!key.environment && html`<button class="compact" aria-label=${t("key.rotate.one", { key: key.name || key.id })} title=${t("key.rotate.hint")}
          onClick=${() => attempt(async () => show(await post(`/tenants/${tenant.id}/keys/${key.id}/rotate`)))}>${t("key.rotate")}</button>`}
        <button class="compact bad" aria-label=${t("admin.revoke.one", { key: key.name || key.id })} onClick=${() => revoke(key.id)}>${t("admin.revoke")}</button></div>`}
    </div>`)}
    <${Make} tenant=${tenant} onMade=${show} />
    ${made && html`<${NewKey} made=${made} onClose=${() => setMade(null)} />`}
  </div>`;
}
