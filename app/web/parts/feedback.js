// Thumbs and corrections; shown where the server takes them.
import { post } from "../api.js";
import { t } from "../i18n.js";
import { has } from "../session.js";
import { html, useState } from "../vendor/preact-htm.js";
import { attempt, Field } from "./basics.js";
import { Icon } from "./icons.js";

export function Feedback({ requestId }) {
  const [rating, setRating] = useState(0);
  const [correction, setCorrection] = useState("");
  const [sent, setSent] = useState(false);
  if (!has("post", "/feedback")) return null;
  const rate = async (value) => {
    const before = rating;
    setRating(value);
    if (!(await attempt(() => post("/feedback", { request_id: requestId, rating: value }), t("feedback.thanks")))) setRating(before);
  };
  const correct = async (event) => {
    event.preventDefault();
    const body = { request_id: requestId, rating: -1, correction: correction.trim() };
    if (await attempt(() => post("/feedback", body), t("feedback.corrected"))) setSent(true);
  };
  return html`<div class="stack">
    <div class="row" role="group" aria-label=${t("feedback")}>
      <span class="small soft">${t("feedback")}</span>
      <button class="compact only-icon" aria-pressed=${rating === 1} aria-label=${t("feedback.good")} title=${t("feedback.good")}
        onClick=${() => rate(1)}><${Icon} name="up" /></button>
      <button class="compact only-icon" aria-pressed=${rating === -1} aria-label=${t("feedback.bad")} title=${t("feedback.bad")}
        onClick=${() => rate(-1)}><${Icon} name="down" /></button>
    </div>
    ${rating === -1 && !sent && html`<form class="stack" onSubmit=${correct}>
      <${Field} label=${t("feedback.correction")}>${(id) => html`<textarea id=${id} rows="2" maxlength="16000" value=${correction}
        onInput=${(event) => setCorrection(event.target.value)} />`}<//>
      <div><button class="compact" disabled=${!correction.trim()}>${t("feedback.send")}</button></div>
    </form>`}
  </div>`;
}
