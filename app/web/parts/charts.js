// Charts as SVG: a line as it grows, and bars beside each other. Each says in words what it shows.
import { number } from "../i18n.js";
import { html } from "../vendor/preact-htm.js";

const WIDTH = 640;
const HEIGHT = 220;
const MARGIN = { left: 46, right: 10, top: 10, bottom: 26 };

// points: [[x, y], …] in order of x.
export function LineChart({ points, label, color = "var(--series-1)" }) {
  if (points.length < 2) return null;
  const [x0, x1] = [points[0][0], points.at(-1)[0]];
  const values = points.map(([, y]) => y);
  const low = Math.min(0, ...values);
  const high = Math.max(...values) * 1.05 || 1;
  const x = (value) => MARGIN.left + ((value - x0) / (x1 - x0 || 1)) * (WIDTH - MARGIN.left - MARGIN.right);
  const y = (value) => HEIGHT - MARGIN.bottom - ((value - low) / (high - low || 1)) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const steps = [0, 0.25, 0.5, 0.75, 1].map((share) => low + share * (high - low));
  const path = points.map(([at, value], index) => `${index ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  return html`<svg class="chart" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label=${label}>
    ${steps.map((step) => html`<g key=${step}><line class="grid" x1=${MARGIN.left} x2=${WIDTH - MARGIN.right} y1=${y(step)} y2=${y(step)} />
      <text x=${MARGIN.left - 6} y=${y(step) + 4} text-anchor="end">${number(step, 2)}</text></g>`)}
    <text x=${MARGIN.left} y=${HEIGHT - 6}>${number(x0)}</text>
    <text x=${WIDTH - MARGIN.right} y=${HEIGHT - 6} text-anchor="end">${number(x1)}</text>
    <path class="line" d=${path} style=${{ stroke: color }} />
  </svg>`;
}

// rows: [{name, value, low, high}]; low and high are the ends of an interval, where there is one.
export function BarChart({ rows, label, most = 100 }) {
  const line = 34;
  const x = (value) => (Math.min(most, Math.max(0, value)) / most) * (WIDTH - 60);
  return html`<svg class="chart" viewBox="0 0 ${WIDTH} ${rows.length * (line + 16)}" role="img" aria-label=${label}>
    ${rows.map((row, index) => {
      const top = index * (line + 16);
      return html`<g key=${row.name}>
        <text x="0" y=${top + 12}>${row.name}</text>
        <rect x="0" y=${top + 18} width=${WIDTH - 60} height="20" rx="5" style=${{ fill: "var(--sunken)" }} />
        <rect x="0" y=${top + 18} width=${x(row.value)} height="20" rx="5" style=${{ fill: `var(--series-${(index % 4) + 1})` }} />
        ${row.low !== undefined && html`<line x1=${x(row.low)} x2=${x(row.high)} y1=${top + 28} y2=${top + 28} style=${{ stroke: "var(--ink)", strokeWidth: 2 }} />`}
        <text x=${WIDTH - 52} y=${top + 33} style=${{ fill: "var(--ink)", fontWeight: 600 }}>${number(row.value, 1)}</text>
      </g>`;
    })}
  </svg>`;
}
