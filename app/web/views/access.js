// For a tenant's own administrator: its keys, what it has decided, what was changed.
import { get } from "../api.js";
import { t } from "../i18n.js";
import { Audit } from "../parts/audit.js";
import { Loading, Trouble, useLoaded } from "../parts/basics.js";
import { Keys } from "../parts/keys.js";
import { Policy } from "../parts/policy.js";
import { session } from "../session.js";
import { html } from "../vendor/preact-htm.js";

export function Access() {
  const { tenant } = session.use();
  const { data, problem } = useLoaded(() => get(`/tenants/${tenant}`), [tenant]);
  return html`<div class="view">
    <header><div><h1>${t("access.title")}</h1><p>${t("access.lead")}</p></div></header>
    ${problem && html`<${Trouble} problem=${problem} />`}
    ${!data && !problem && html`<${Loading} />`}
    ${data && html`
      <section class="card stack" aria-label=${t("keys")}><h2>${t("keys")}</h2><p class="soft">${t("access.keys")}</p>
        <${Keys} path=${`/tenants/${tenant}/keys`} name=${data.name} /></section>
      <section class="card stack" aria-label=${t("policy")}><h2>${t("policy")}</h2><${Policy} /></section>
      <section class="card" aria-label=${t("audit")}><${Audit} tenant=${data} /></section>`}
  </div>`;
}
