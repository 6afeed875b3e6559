// A tenant's limits, for the admin: each is the service's default, a number, or none.
import { call, get } from "../api.js";
import { t } from "../i18n.js";
import { html, useState } from "../vendor/preact-htm.js";
import { attempt, Field, Trouble, useLoaded } from "./basics.js";

const LIMITS = ["documents", "bytes", "adapter_versions", "requests_per_minute", "tokens_per_day", "training_minutes_per_day"];

// One limit: how it is set, and the number where it is one.
function Limit({ name, override, holds, onChange }) {
  const how = override === undefined || override === null ? "default" : override === "unlimited" ? "unlimited" : "number";
  const change = (event) => onChange(event.target.value === "number" ? (holds ?? 1000) : event.target.value === "default" ? null : "unlimited");
  return html`<${Field} label=${t(`usage.${name}`)} hint=${how === "default" ? t("limit.now", { value: holds === null ? t("limit.unlimited") : String(holds) }) : null}>${(id) => html`
    <select id=${id} value=${how} onChange=${change}>${["default", "number", "unlimited"].map((each) => html`<option key=${each} value=${each}>${t(`limit.${each}`)}</option>`)}</select>
    ${how === "number" && html`<input type="number" min=${name === "requests_per_minute" ? 1 : 0} required aria-label=${t("limit.of", { name: t(`usage.${name}`) })} value=${override} onInput=${(event) => onChange(event.target.value === "" ? "" : Number(event.target.value))} />`}`}<//>`;
}

export function Limits({ tenant, onSet }) {
  const { data, problem, reload } = useLoaded(() => get(`/tenants/${tenant.id}`), [tenant.id]);
  const [changed, setChanged] = useState({});
  if (problem) return html`<${Trouble} problem=${problem} />`;
  if (!data) return null;
  const save = async (event) => {
    event.preventDefault();
    if (!(await attempt(() => call("PATCH", `/tenants/${tenant.id}`, { json: { limits: changed } }), t("limit.set")))) return;
    setChanged({});
    reload();
    onSet();
  };
  const now = { ...data.overrides, ...changed };
  return html`<details><summary>${t("limits")}</summary><form class="stack" onSubmit=${save}>
    <div class="fields">${LIMITS.map((name) => html`<${Limit} key=${name} name=${name} override=${now[name]} holds=${data.limits[name]} onChange=${(value) => setChanged({ ...changed, [name]: value })} />`)}</div>
    <div><button class="first" disabled=${Object.keys(changed).length === 0}>${t("limit.save")}</button></div>
  </form></details>`;
}
