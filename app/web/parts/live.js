// The service over the last minutes: what waits, how large batches are, how long answers take. Kept while the page is open.
import { number, t, time } from "../i18n.js";
import { personal } from "../store.js";
import { html } from "../vendor/preact-htm.js";
import { LineChart } from "./charts.js";

const MOST = 200; // readings that are kept
const WINDOW = 10; // readings that a latency is of

const seen = personal({ readings: [] });

// Take a reading of the metrics; a service that began anew begins a new line.
export function take(metrics) {
  const { readings } = seen.get();
  const last = readings.at(-1);
  if (last?.at === metrics.at) return;
  const restarted = last && metrics.value("asks_total") < last.value("asks_total");
  seen.set({ readings: [...(restarted ? [] : readings.slice(1 - MOST)), metrics] });
}

const milliseconds = (value) => (value === null || value === undefined ? null : 1000 * value);

function latency(readings, index, share) {
  const found = readings[index].seconds("ask_stage_seconds", "stage", readings[Math.max(0, index - WINDOW)]);
  return milliseconds(found.find(({ group }) => group === "total")?.[share]);
}

function batch(readings, index) {
  if (index === 0) return null;
  const [now, before] = [readings[index], readings[index - 1]];
  const steps = now.value("engine_steps_total") - before.value("engine_steps_total");
  return steps ? (now.value("engine_step_rows_total") - before.value("engine_step_rows_total")) / steps : null;
}

function Chart({ title, series }) {
  const chart = LineChart({ series, label: title, ends: time });
  return html`<section class="card stack"><h2>${title}</h2>${chart ?? html`<p class="small soft">${t("live.none")}</p>`}</section>`;
}

export function Live() {
  const { readings } = seen.use();
  const line = (name, figure) => ({ name, points: readings.map((each, index) => [each.at, figure(each, index)]) });
  if (readings.length < 2) return html`<p class="small soft">${t("live.wait")}</p>`;
  return html`<div class="columns pairs">
    <${Chart} title=${t("live.queue")} series=${[line(t("health.waiting"), (each) => each.value("engine_rows", { state: "waiting" })), line(t("health.answering"), (each) => each.value("engine_rows", { state: "running" }))]} />
    <${Chart} title=${t("live.latency", { count: number(WINDOW * 3) })} series=${[line(t("health.p50.short"), (_, index) => latency(readings, index, "p50")), line(t("health.p95.short"), (_, index) => latency(readings, index, "p95"))]} />
    <${Chart} title=${t("live.batch")} series=${[line(t("live.batch"), (_, index) => batch(readings, index))]} />
    <${Chart} title=${t("health.resident")} series=${[line(t("health.resident"), (each) => each.value("adapters_resident"))]} />
  </div>`;
}
