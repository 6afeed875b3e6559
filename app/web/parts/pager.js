// Pages of a long list.
import { number, t } from "../i18n.js";
import { html } from "../vendor/preact-htm.js";
import { Icon } from "./icons.js";

export function Pager({ total, limit, offset, onOffset }) {
  if (total <= limit) return null;
  return html`<nav class="row" aria-label=${t("pager")}>
    <button class="compact" disabled=${offset === 0} onClick=${() => onOffset(Math.max(0, offset - limit))}><${Icon} name="left" />${t("pager.before")}</button>
    <span class="number small soft">${t("pager.range", { from: number(offset + 1), to: number(Math.min(total, offset + limit)), total: number(total) })}</span>
    <button class="compact" disabled=${offset + limit >= total} onClick=${() => onOffset(offset + limit)}>${t("pager.after")}<${Icon} name="right" /></button>
  </nav>`;
}
