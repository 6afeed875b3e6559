// What a tenant has and has used, beside its limits, and its questions by day.
import { bytes, day, number, t } from "../i18n.js";
import { html } from "../vendor/preact-htm.js";
import { Loading, Trouble, useLoaded } from "./basics.js";
import { ColumnChart } from "./charts.js";

const DAYS = 14;

// The last days, oldest first, those without any use too.
function lastDays(days) {
  const used = new Map(days.map((each) => [each.day, each.questions]));
  return Array.from({ length: DAYS }, (_, index) => {
    const iso = new Date(Date.now() - (DAYS - 1 - index) * 86_400_000).toISOString().slice(0, 10);
    return { name: iso.slice(5), value: used.get(iso) ?? 0, day: iso };
  });
}

function Share({ name, used, limit, shown = number }) {
  return html`<li class="stack usage"><div class="row spread"><span class="soft small">${name}</span>
      <span class="number">${limit === null ? shown(used) : t("usage.of", { used: shown(used), limit: shown(limit) })}</span></div>
    ${limit !== null && html`<div class="bar" role="meter" aria-label=${name} aria-valuemin="0" aria-valuemax=${limit} aria-valuenow=${Math.min(used, limit)}>
      <span style=${{ width: `${Math.min(100, limit ? (100 * used) / limit : 100)}%` }} /></div>`}</li>`;
}

// `load`: gets what GET /usage answers; `inputs`: when they change it is asked again.
export function Usage({ load, inputs = [] }) {
  const { data, problem } = useLoaded(load, inputs);
  if (problem) return html`<${Trouble} problem=${problem} />`;
  if (!data) return html`<${Loading} />`;
  const { holds, today, limits, days } = data;
  const columns = lastDays(days);
  return html`<ul class="fields">
      <${Share} name=${t("usage.documents")} used=${holds.documents} limit=${limits.documents} />
      <${Share} name=${t("usage.bytes")} used=${holds.bytes} limit=${limits.bytes} shown=${bytes} />
      <${Share} name=${t("usage.adapter_versions")} used=${holds.adapter_versions} limit=${limits.adapter_versions} />
      <${Share} name=${t("usage.requests")} used=${today.requests} limit=${null} />
      <${Share} name=${t("usage.tokens_per_day")} used=${today.tokens} limit=${limits.tokens_per_day} />
      <${Share} name=${t("usage.training_minutes_per_day")} used=${today.training_minutes} limit=${limits.training_minutes_per_day} shown=${(value) => number(value, 1)} />
    </ul>
    <figure class="stack"><figcaption class="small soft">${t("usage.questions", { days: number(DAYS) })}</figcaption>
      <${ColumnChart} label=${t("usage.questions.label", { first: day(columns[0].day), last: day(columns.at(-1).day), count: number(columns.reduce((sum, { value }) => sum + value, 0)) })} columns=${columns} /></figure>`;
}
