// What an evaluation or a gate found, as charts: right answers, right citations, time.
import { t } from "../i18n.js";
import { html } from "../vendor/preact-htm.js";
import { BarChart } from "./charts.js";

// A way to answer, in words.
export const nameOf = (way) => t(`way.${way}`);

const CHARTS = [
  { key: "f1", of: ({ f1, f1_low, f1_high }) => ({ value: f1, low: f1_low, high: f1_high }) },
  { key: "cited", of: ({ citation_correct }) => (citation_correct === null ? null : { value: 100 * citation_correct }) },
  { key: "time", of: ({ p50_ms }) => ({ value: p50_ms }), unit: " ms", digits: 0 },
];

export function EvaluationCharts({ ways }) {
  const shown = ways.filter(({ figures }) => figures);
  if (shown.length === 0) return null;
  return html`<div class="columns">${CHARTS.map(({ key, of, unit = "", digits = 1 }) => {
    const rows = shown.map(({ way, figures }) => ({ name: nameOf(way), ...of(figures) })).filter(({ value }) => value !== undefined);
    const most = key === "time" ? Math.max(...rows.map(({ value }) => value)) : 100;
    return rows.length > 0 && html`<figure class="stack" key=${key}><figcaption class="small soft">${t(`evaluation.chart.${key}`)}</figcaption>
      <${BarChart} label=${t(`evaluation.chart.${key}`)} rows=${rows} most=${most} unit=${unit} digits=${digits} /></figure>`;
  })}</div>`;
}
