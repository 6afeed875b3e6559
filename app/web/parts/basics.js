// Small pieces that every view uses: notes, fields, dialogs, loading of data.
import { t, told } from "../i18n.js";
import { store } from "../store.js";
import { html, useEffect, useId, useRef, useState } from "../vendor/preact-htm.js";
import { Icon } from "./icons.js";

export const Note = ({ kind = "", children, role }) => html`<div class="note ${kind}" role=${role ?? (kind === "bad" ? "alert" : undefined)}>
  ${(kind === "bad" || kind === "warn") && html`<${Icon} name="warn" />`}<div>${children}</div>
</div>`;

// What went wrong: a problem, or the service's own words for a document or job that failed.
export function Trouble({ problem }) {
  const { text, detail } = told(problem);
  return html`<${Note} kind="bad">${text}${detail && html`<p class="small soft break" lang="en">${detail}</p>`}<//>`;
}

// A label with its control; `children` gets the id that belongs on the control.
export function Field({ label, hint, children }) {
  const id = useId();
  return html`<div class="field">
    <label for=${id}>${label}</label>
    ${children(id)}
    ${hint && html`<small>${hint}</small>`}
  </div>`;
}

export const Bar = ({ value, label }) => html`<div
  class="bar ${value === null ? "unknown" : ""}" role="progressbar" aria-label=${label}
  aria-valuemin="0" aria-valuemax="100" aria-valuenow=${value === null ? undefined : Math.round(value * 100)}
><span style=${value === null ? undefined : { width: `${Math.round(value * 100)}%` }} /></div>`;

// How far a job is; unknown while it is awaited, or has not counted its work yet.
export const JobBar = ({ job, label }) => html`<${Bar} value=${job?.progress.total ? job.progress.done / job.progress.total : null} label=${label} />`;

export const Loading = () => html`<${Bar} value=${null} label=${t("loading")} />`;

export const Empty = ({ title, children }) => html`<div class="empty"><h2>${title}</h2>${children}</div>`;

// A modal dialog: Escape and a click beside it close it, the focus goes back to where it was.
export function Dialog({ label, onClose, wide = false, children }) {
  const element = useRef(null);
  useEffect(() => {
    element.current.showModal();
  }, []);
  return html`<dialog ref=${element} class=${wide ? "wide" : ""} aria-label=${label}
    onClose=${onClose} onClick=${(event) => event.target === element.current && element.current.close()}>
    ${children(() => element.current.close())}
  </dialog>`;
}

export function Confirm({ title, text, action, onYes, onClose }) {
  const [busy, setBusy] = useState(false);
  const yes = async (close) => {
    setBusy(true);
    await onYes();
    close();
  };
  return html`<${Dialog} label=${title} onClose=${onClose}>${(close) => html`<div class="inside">
    <h2>${title}</h2>
    <p class="break">${text}</p>
    <div class="row">
      <button class="first" disabled=${busy} onClick=${() => yes(close)}>${action}</button>
      <button onClick=${close} autofocus>${t("cancel")}</button>
    </div>
  </div>`}<//>`;
}

// Load when `inputs` change: {data, problem, loading, reload}. Earlier data stays until the new is there.
export function useLoaded(load, inputs) {
  const [state, setState] = useState({ data: null, problem: null, loading: true });
  const [count, setCount] = useState(0);
  useEffect(() => {
    let gone = false;
    setState((before) => ({ ...before, loading: true }));
    load().then(
      (data) => gone || setState({ data, problem: null, loading: false }),
      (problem) => gone || setState((before) => ({ ...before, problem, loading: false })),
    );
    return () => {
      gone = true;
    };
  }, [...inputs, count]);
  return { ...state, reload: () => setCount((before) => before + 1) };
}

// Again every `seconds` while `wanted`.
export function useRepeated(action, seconds, wanted = true) {
  const latest = useRef(action);
  latest.current = action;
  useEffect(() => {
    if (!wanted) return undefined;
    const timer = setInterval(() => document.hidden || latest.current(), seconds * 1000);
    return () => clearInterval(timer);
  }, [seconds, wanted]);
}

// Give the browser bytes to keep as a file.
export function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}

const toasts = store({ shown: [] });
let nextToast = 0;

export function toast(text, kind = "good", detail = "") {
  const id = nextToast++;
  toasts.set(({ shown }) => ({ shown: [...shown.slice(-3), { id, text, kind, detail }] }));
  setTimeout(() => toasts.set(({ shown }) => ({ shown: shown.filter((each) => each.id !== id) })), 6000);
}

// Do something, and say how it went; true when it went well.
export async function attempt(action, said) {
  try {
    await action();
  } catch (problem) {
    const { text, detail } = told(problem);
    toast(text, "bad", detail);
    return false;
  }
  if (said) toast(said);
  return true;
}

export const Toasts = () => html`<div class="toasts" role="status" aria-live="polite">
  ${toasts.use().shown.map((each) => html`<div key=${each.id} class="note ${each.kind}"><div>${each.text}${each.detail && html`<p class="small soft break" lang="en">${each.detail}</p>`}</div></div>`)}
</div>`;

export const Copy = ({ text }) => html`<button class="compact" onClick=${() =>
  attempt(() => navigator.clipboard.writeText(text), t("copied"))}><${Icon} name="copy" />${t("copy")}</button>`;
