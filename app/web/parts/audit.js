// What was changed in a tenant, when and by which key.
import { get } from "../api.js";
import { t, when } from "../i18n.js";
import { html, useState } from "../vendor/preact-htm.js";
import { Loading, Trouble, useLoaded } from "./basics.js";
import { Pager } from "./pager.js";

const LIMIT = 20;

function Entries({ tenant }) {
  const [offset, setOffset] = useState(0);
  const { data, problem } = useLoaded(() => get(`/tenants/${tenant.id}/audit?limit=${LIMIT}&offset=${offset}`), [tenant.id, offset]);
  if (problem) return html`<${Trouble} problem=${problem} />`;
  if (!data) return html`<${Loading} />`;
  return html`<div class="scroll" tabindex="0" role="group" aria-label=${t("audit")}><table class="cards">
      <thead><tr><th>${t("audit.action")}</th><th>${t("audit.at")}</th><th>${t("audit.status")}</th><th>${t("audit.key")}</th></tr></thead>
      <tbody>${data.entries.map((entry) => html`<tr key=${entry.number}><th scope="row" class="small"><code class="break">${entry.action}</code></th><td class="small soft">${when(entry.at)}</td>
        <td><span class="chip ${entry.status < 400 ? "good" : "warn"}">${entry.status}</span></td><td><code class="soft">${entry.key_id.slice(0, 12)}</code></td></tr>`)}</tbody></table></div>
    <${Pager} total=${data.total} limit=${LIMIT} offset=${offset} onOffset=${setOffset} />`;
}

export function Audit({ tenant }) {
  const [open, setOpen] = useState(false);
  return html`<details onToggle=${(event) => setOpen(event.target.open)}><summary>${t("audit")}</summary>${open && html`<div class="stack"><${Entries} tenant=${tenant} /></div>`}</details>`;
}
