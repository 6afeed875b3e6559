// Charts as SVG, drawn as wide as they are shown: lines as they grow, bars beside each other, columns by day. Each says
// in words what it shows.
import { number } from "../i18n.js";
import { html, useEffect, useRef, useState } from "../vendor/preact-htm.js";

const HEIGHT = 200;
const MARGIN = { left: 46, right: 12, top: 10, bottom: 26 };
const NARROWEST = 220;

export const color = (index) => `var(--series-${(index % 4) + 1})`;

// A figure's box, and how wide it is on the screen.
function Figure({ label, children }) {
  const box = useRef(null);
  const [width, setWidth] = useState(640);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.max(NARROWEST, Math.round(entry.contentRect.width))));
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  const { height, inside } = children(width);
  return html`<div ref=${box}><svg class="chart" viewBox="0 0 ${width} ${height}" role="img" aria-label=${label}>${inside}</svg></div>`;
}

const Legend = ({ names }) => html`<ul class="legend" aria-hidden="true">${names.map((name, index) => html`<li key=${name}><i style=${{ background: color(index) }} />${name}</li>`)}</ul>`;

function pathOf(points, x, y) {
  let pen = false;
  return points.map(([at, value]) => {
    if (value === null) return ((pen = false), "");
    const step = `${pen ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}h0`; // a lone point is a dot
    pen = true;
    return step;
  }).join("");
}

// series: [{name, points: [[x, y or null], …] in order of x}]; null is a gap. ends: words for the first and last x.
export function LineChart({ series, label, ends = (value) => number(value) }) {
  const all = series.flatMap(({ points }) => points);
  const values = all.map(([, y]) => y).filter((value) => value !== null);
  if (all.length < 2 || values.length === 0) return null;
  const [x0, x1] = [Math.min(...all.map(([x]) => x)), Math.max(...all.map(([x]) => x))];
  const low = Math.min(0, ...values);
  const high = Math.max(...values) * 1.05 || 1;
  return html`<figure class="stack"><${Figure} label=${label}>${(width) => {
    const x = (value) => MARGIN.left + ((value - x0) / (x1 - x0 || 1)) * (width - MARGIN.left - MARGIN.right);
    const y = (value) => HEIGHT - MARGIN.bottom - ((value - low) / (high - low || 1)) * (HEIGHT - MARGIN.top - MARGIN.bottom);
    const steps = [0, 0.25, 0.5, 0.75, 1].map((share) => low + share * (high - low));
    return { height: HEIGHT, inside: html`
      ${steps.map((step) => html`<g key=${step}><line class="grid" x1=${MARGIN.left} x2=${width - MARGIN.right} y1=${y(step)} y2=${y(step)} />
        <text x=${MARGIN.left - 6} y=${y(step) + 4} text-anchor="end">${number(step, high < 10 ? 2 : 0)}</text></g>`)}
      <text x=${MARGIN.left} y=${HEIGHT - 6}>${ends(x0)}</text>
      <text x=${width - MARGIN.right} y=${HEIGHT - 6} text-anchor="end">${ends(x1)}</text>
      ${series.map(({ name, points }, index) => html`<path key=${name} class="line" d=${pathOf(points, x, y)} style=${{ stroke: color(index) }} />`)}` };
  }}<//>${series.length > 1 && html`<${Legend} names=${series.map(({ name }) => name)} />`}</figure>`;
}

// rows: [{name, value, low, high}]; low and high are the ends of an interval, where there is one.
export function BarChart({ rows, label, most = 100, digits = 1, unit = "" }) {
  const line = 46;
  const room = 76;
  return html`<${Figure} label=${label}>${(width) => {
    const x = (value) => (Math.min(most, Math.max(0, value)) / (most || 1)) * (width - room);
    return { height: rows.length * line, inside: rows.map((row, index) => {
      const top = index * line;
      return html`<g key=${row.name}>
        <text x="0" y=${top + 12}>${row.name}</text>
        <rect x="0" y=${top + 18} width=${width - room} height="18" rx="5" style=${{ fill: "var(--sunken)" }} />
        <rect x="0" y=${top + 18} width=${x(row.value)} height="18" rx="5" style=${{ fill: color(index) }} />
        ${row.low !== undefined && html`<line x1=${x(row.low)} x2=${x(row.high)} y1=${top + 27} y2=${top + 27} style=${{ stroke: "var(--ink)", strokeWidth: 2 }} />`}
        <text x=${width - room + 8} y=${top + 32} style=${{ fill: "var(--ink)", fontWeight: 600 }}>${number(row.value, digits)}${unit}</text>
      </g>`;
    }) };
  }}<//>`;
}

// columns: [{name, value}], such as a value for each day, oldest first.
export function ColumnChart({ columns, label }) {
  const most = Math.max(...columns.map(({ value }) => value)) || 1;
  const height = 130;
  const floor = height - 22;
  return html`<${Figure} label=${label}>${(width) => {
    const step = width / columns.length;
    const shown = Math.ceil(70 / step); // names stand apart
    return { height, inside: html`<line class="grid" x1="0" x2=${width} y1=${floor} y2=${floor} />
      ${columns.map(({ name, value }, index) => {
        const tall = (value / most) * (floor - 18);
        return html`<g key=${name}><rect x=${index * step + step * 0.15} y=${floor - tall} width=${step * 0.7} height=${tall} rx="3" style=${{ fill: color(0) }} />
          <text x=${(index + 0.5) * step} y=${floor - tall - 5} text-anchor="middle">${value ? number(value) : ""}</text>
          ${index % shown === 0 && html`<text x=${(index + 0.5) * step} y=${height - 5} text-anchor="middle">${name}</text>`}</g>`;
      })}` };
  }}<//>`;
}
