// What the tenant has decided: what is kept of answers, and which versions of an adapter may serve.
import { call, get } from "../api.js";
import { t } from "../i18n.js";
import { html, useState } from "../vendor/preact-htm.js";
import { attempt, Field, Loading, Trouble, useLoaded } from "./basics.js";

const SWITCHES = ["keep_answers", "require_gate", "auto_rollback"];
const ON_ERASURE = ["warn", "block", "retrain"];

export function Policy() {
  const { data, problem, reload } = useLoaded(() => get("/policy"), []);
  const [changed, setChanged] = useState({});
  if (problem) return html`<${Trouble} problem=${problem} />`;
  if (!data) return html`<${Loading} />`;
  const now = { ...data, ...changed };
  const save = async (event) => {
    event.preventDefault();
    if (!(await attempt(() => call("PUT", "/policy", { json: changed }), t("policy.saved")))) return;
    setChanged({});
    reload();
  };
  return html`<form class="stack" onSubmit=${save}>
    ${SWITCHES.map((name) => html`<label key=${name} class="check"><input type="checkbox" checked=${now[name]}
      onChange=${(event) => setChanged({ ...changed, [name]: event.target.checked })} /> ${t(`policy.${name}`)}</label>`)}
    <div class="fields"><${Field} label=${t("policy.on_erasure")}>${(id) => html`<select id=${id} value=${now.on_erasure}
      onChange=${(event) => setChanged({ ...changed, on_erasure: event.target.value })}>
      ${ON_ERASURE.map((each) => html`<option key=${each} value=${each}>${t(`policy.on_erasure.${each}`)}</option>`)}</select>`}<//></div>
    <div><button class="first" disabled=${Object.keys(changed).length === 0}>${t("policy.save")}</button></div>
  </form>`;
}
