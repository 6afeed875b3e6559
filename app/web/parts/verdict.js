// What the gate decided over a version: the conditions, and what to do about one that it holds back.
import { number, t } from "../i18n.js";
import { html } from "../vendor/preact-htm.js";
import { Note } from "./basics.js";

function Advice({ advice }) {
  const { because, rival, questions, even, likely, promote_anyway: anyway } = advice;
  const points = Object.fromEntries(["gain", "low", "high"].map((each) => [each, number(advice[each] ?? 0, 1)]));
  const counts = { questions: number(questions), even: number(even ?? 0), likely: number(likely ?? 0) };
  return html`<p>${t(`advice.${because}`, { ...points, ...counts, rival: rival && t(`advice.rival.${rival}`) })}</p>
    <p class="soft">${t(anyway ? "advice.anyway" : "advice.policy")}</p>`;
}

export function Verdict({ gate }) {
  const { passed, promoted, reasons, advice } = gate;
  return html`<${Note} kind=${passed ? "good" : "warn"}><strong>${t(promoted ? "gate.promoted" : passed ? "gate.passed" : "gate.refused")}</strong>
    ${advice && html`<${Advice} advice=${advice} />`}
    <ul lang="en">${reasons.map((reason) => html`<li key=${reason}>${reason}</li>`)}</ul><//>`;
}
