// Where a question is written: Enter sends, Shift+Enter makes a line, "/" comes here from anywhere.
import { t } from "../i18n.js";
import { html, useEffect, useId, useRef } from "../vendor/preact-htm.js";
import { Icon } from "./icons.js";

const LONGEST = 4000;

export function Composer({ value, onInput, onSend, busy, onStop, label, action = t("ask.send"), rows = 2, children }) {
  const id = useId();
  const box = useRef(null);
  useEffect(() => {
    const come = (event) => {
      if (event.key !== "/" || event.target.closest("input, textarea, select, dialog")) return;
      event.preventDefault();
      box.current.focus();
    };
    addEventListener("keydown", come);
    return () => removeEventListener("keydown", come);
  }, []);
  useEffect(() => {
    box.current.style.height = "auto";
    box.current.style.height = `${Math.min(box.current.scrollHeight + 2, 240)}px`;
  }, [value]);
  const ready = value.trim() !== "" && !busy;
  const typed = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (ready) onSend();
  };
  return html`<form class="card composer" onSubmit=${(event) => {
    event.preventDefault();
    if (ready) onSend();
  }}>
    <label class="visually-hidden" for=${id}>${label}</label>
    <textarea id=${id} ref=${box} rows=${rows} maxlength=${LONGEST} placeholder=${label} value=${value}
      onInput=${(event) => onInput(event.target.value)} onKeyDown=${typed} />
    <div class="row foot">
      ${children}
      <span class="small soft keys"><kbd>Enter</kbd> ${t("ask.enter")}</span>
      ${busy
        ? html`<button type="button" onClick=${onStop}><${Icon} name="stop" />${t("ask.stop")}</button>`
        : html`<button class="first" disabled=${!ready}><${Icon} name="send" />${action}</button>`}
    </div>
  </form>`;
}
