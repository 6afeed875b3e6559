// Keys: listed, made for what they are for, rotated, revoked. A key is shown once, when it is made.
import { get, post, remove } from "../api.js";
import { t, when } from "../i18n.js";
import { may, session } from "../session.js";
import { html, useState } from "../vendor/preact-htm.js";
import { attempt, Confirm, Copy, Dialog, Field, Trouble, useLoaded } from "./basics.js";
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
  const reach = key.collections ? ` (${key.collections.join(", ")})` : "";
  const scopes = key.scopes.map((scope) => t(`scope.${scope}`)).join(", ") + reach;
  const end = key.revoked_at ? t("admin.key.revoked", { at: when(key.revoked_at) })
    : key.expires_at ? t("admin.key.expires", { at: when(key.expires_at) }) : "";
  const used = key.last_used_at ? t("admin.key.used", { at: when(key.last_used_at) }) : t("admin.key.unused");
  return [key.name, scopes, end, used].filter(Boolean).join(" · ");
}

// `scoped`: a tenant's keys have scopes and collections, the service's admin's have none.
function Make({ path, scoped, onMade }) {
  const [wanted, setWanted] = useState({ name: "", scopes: ["ask"], collections: "", days: "" });
  const change = (name) => (event) => setWanted({ ...wanted, [name]: event.target.value });
  const toggle = (scope) => () =>
    setWanted({ ...wanted, scopes: wanted.scopes.includes(scope) ? wanted.scopes.filter((each) => each !== scope) : [...wanted.scopes, scope] });
  const make = async (event) => {
    event.preventDefault();
    const collections = wanted.collections.split(",").map((each) => each.trim()).filter(Boolean);
    await attempt(async () => {
      const expires_at = wanted.days === "" ? undefined : new Date(Date.now() + Number(wanted.days) * DAY).toISOString();
      const terms = scoped ? { scopes: wanted.scopes, collections: collections.length ? collections : undefined } : {};
      onMade(await post(path, { name: wanted.name.trim(), expires_at, ...terms }));
    });
  };
  return html`<details><summary>${t("admin.add")}</summary><form class="stack" onSubmit=${make}>
    <div class="fields">
      <${Field} label=${t("key.name")}>${(id) => html`<input id=${id} type="text" maxlength="100" value=${wanted.name} onInput=${change("name")} />`}<//>
      ${scoped && html`<${Field} label=${t("key.collections")} hint=${t("key.collections.hint")}>${(id) => html`<input id=${id} type="text" value=${wanted.collections} placeholder=${t("all")} onInput=${change("collections")} />`}<//>`}
      <${Field} label=${t("key.days")}>${(id) => html`<input id=${id} type="number" min="0.01" max="3650" step="any" value=${wanted.days} placeholder=${t("key.days.unset")} onInput=${change("days")} />`}<//>
    </div>
    ${scoped && html`<fieldset class="row"><legend class="small soft">${t("key.scopes")}</legend>${SCOPES.map((scope) => html`<label key=${scope} class="check"><input type="checkbox" checked=${wanted.scopes.includes(scope)} onChange=${toggle(scope)} />${t(`scope.${scope}`)}</label>`)}</fieldset>`}
    <div><button class="first" disabled=${scoped && wanted.scopes.length === 0}><${Icon} name="access" />${t("key.make")}</button></div>
  </form></details>`;
}

function Row({ known, path, onMade, onRevoke }) {
  const own = known.id === session.get().keyId;
  const name = known.name || known.id;
  const rotate = () => attempt(async () => onMade(await post(`${path}/${known.id}/rotate`)));
  return html`<div class="row spread">
    <p class="grow small break">${described(known)} ${own && html`<span class="chip accent">${t("key.own")}</span>`}<br /><code class="soft break">${known.id}</code></p>
    ${!known.revoked_at && html`<div class="row">
      ${!known.environment && html`<button class="compact" aria-label=${t("key.rotate.one", { key: name })} title=${t("key.rotate.hint")} onClick=${rotate}>${t("key.rotate")}</button>`}
      ${!(own && may("operator")) && html`<button class="compact bad" aria-label=${t("admin.revoke.one", { key: name })} onClick=${() => onRevoke(known)}>${t("admin.revoke")}</button>`}</div>`}
  </div>`;
}

// `path`: where the keys are, such as /keys; `name`: whose they are.
export function Keys({ path, name, scoped = true }) {
  const { data, problem, reload } = useLoaded(() => get(path), [path]);
  const [made, setMade] = useState(null);
  const [leaving, setLeaving] = useState(null);
  const show = (key) => {
    setMade({ ...key, name });
    reload();
  };
  return html`<div class="stack">
    ${problem && html`<${Trouble} problem=${problem} />`}
    ${data?.keys.map((known) => html`<${Row} key=${known.id} known=${known} path=${path} onMade=${show} onRevoke=${setLeaving} />`)}
    <${Make} path=${path} scoped=${scoped} onMade=${show} />
    ${made && html`<${NewKey} made=${made} onClose=${() => setMade(null)} />`}
    ${leaving && html`<${Confirm} title=${t("key.revoke.title")} action=${t("admin.revoke")}
      text=${t(leaving.id === session.get().keyId ? "key.revoke.own" : "key.revoke.text", { key: leaving.name || leaving.id })}
      onYes=${async () => {
        await attempt(() => remove(`${path}/${leaving.id}`), t("admin.revoked"));
        reload();
      }} onClose=${() => setLeaving(null)} />`}
  </div>`;
}
