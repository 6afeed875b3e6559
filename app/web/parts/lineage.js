// What a trained version was made of, how its loss fell, and what the gate said of it.
import { get } from "../api.js";
import { number, t } from "../i18n.js";
import { html, useState } from "../vendor/preact-htm.js";
import { Note, useLoaded } from "./basics.js";
import { BarChart, LineChart } from "./charts.js";
import { nameOf } from "./evaluation-charts.js";
import { Verdict } from "./verdict.js";

function Curve({ job }) {
  const { data, problem } = useLoaded(() => get(`/jobs/${job}/loss`), [job]);
  if (problem || !data) return null; // the job may be gone; the version stays
  const points = data.points.map(({ step, loss }) => [step, loss]);
  return html`<${LineChart} series=${[{ name: t("training.loss"), points }]} label=${t("training.curve", { first: number(points[0]?.[1] ?? 0, 2), last: number(points.at(-1)?.[1] ?? 0, 2) })} />`;
}

// The figures that the gate decided by.
function Gate({ evaluation }) {
  const { data, problem } = useLoaded(() => get(`/evaluations/${evaluation}`), [evaluation]);
  if (problem || !data) return null; // it may have been deleted; the verdict stays
  const rows = data.ways.filter(({ figures }) => figures).map(({ way, figures }) => ({ name: nameOf(way), value: figures.f1, low: figures.f1_low, high: figures.f1_high }));
  return rows.length > 0 && html`<figure class="stack"><figcaption class="small soft">${t("lineage.chart")}</figcaption><${BarChart} label=${t("lineage.chart")} rows=${rows} /></figure>`;
}

function Facts({ lineage }) {
  const set = lineage.dataset && `${lineage.dataset.slice(0, 12)} · ${t("lineage.examples", { count: number(lineage.examples) })}`;
  const known = (value, shown) => (value === null ? null : shown(value));
  const facts = [
    [t("lineage.origin"), t(`lineage.origin.${lineage.origin}`)],
    [t("training.method"), [lineage.method, lineage.objective].filter(Boolean).join(" · ")],
    [t("training.set"), set],
    [t("lineage.base"), lineage.base],
    [t("lineage.steps"), known(lineage.steps, number)],
    [t("lineage.parameters"), known(lineage.trainable, number)],
    [t("training.loss"), known(lineage.final_loss, (loss) => number(loss, 3))],
    [t("lineage.seconds"), known(lineage.seconds, (seconds) => `${number(seconds)} s`)],
  ].filter(([, value]) => value);
  return html`<dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd class="break">${value}</dd></div>`)}</dl>`;
}

// Of all versions of an adapter, those that tell where they come from; opened one by one.
export function Lineage({ adapter }) {
  const [shown, setShown] = useState([]);
  const told = adapter.versions.filter(({ lineage, gate }) => lineage || gate).reverse();
  return told.map(({ version, lineage, gate, tainted }) => html`<details key=${version} onToggle=${(event) => event.currentTarget.open && setShown([...shown, version])}>
    <summary>${t("lineage", { name: `${adapter.name}@${version}` })}</summary>
    <div class="stack">
      ${tainted?.length > 0 && html`<${Note} kind="warn">${t("lineage.tainted", { count: number(tainted.length) })}<//>`}
      ${gate && html`<${Verdict} gate=${gate} />
        ${shown.includes(version) && html`<${Gate} evaluation=${gate.evaluation_id} />`}`}
      ${lineage && html`<${Facts} lineage=${lineage} />${shown.includes(version) && lineage.origin === "trained" && html`<${Curve} job=${lineage.job_id} />`}`}
    </div>
  </details>`);
}
