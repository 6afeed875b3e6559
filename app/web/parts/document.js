// One document in a dialog: its text with the cited sentence marked, the page as it looks, its chunks.
import { get, request } from "../api.js";
import { bytes, number, t, when } from "../i18n.js";
import { personal } from "../store.js";
import { html, useEffect, useMemo, useRef, useState } from "../vendor/preact-htm.js";
import { Dialog, Loading, Trouble, useLoaded } from "./basics.js";
import { Icon } from "./icons.js";
import { Pager } from "./pager.js";

const PDF = "application/pdf";
const WINDOW = 20000; // UTF-16 units shown on either side of the place that was asked for
const CHUNKS = 50;

const shown = personal({ target: null });

// target: {id} and, for a place in it, {start, end} in code points and {page}.
export const openDocument = (target) => shown.set({ target });

// The index in a string (UTF-16 units) of a code point's offset.
export function unitIndex(text, offset) {
  let index = 0;
  for (let point = 0; point < offset && index < text.length; point++) index += text.codePointAt(index) > 0xffff ? 2 : 1;
  return index;
}

// Not through the middle of a surrogate pair.
const whole = (text, index) => (/[\uDC00-\uDFFF]/.test(text[index] ?? "") ? index + 1 : index);

function TextView({ id, start, end }) {
  const { data, problem } = useLoaded(async () => (await request("GET", `/documents/${id}/text`)).text(), [id]);
  const [around, setAround] = useState(WINDOW);
  const marked = useRef(null);
  useEffect(() => {
    marked.current?.scrollIntoView({ block: "center" });
  }, [data]);
  const place = useMemo(() => {
    if (data === null || start === undefined) return { from: 0, to: 0 };
    return { from: unitIndex(data, start), to: unitIndex(data, end) };
  }, [data, start, end]);
  if (problem) return html`<${Trouble} problem=${problem} />`;
  if (data === null) return html`<${Loading} />`;
  const first = whole(data, Math.max(0, place.from - around));
  const last = whole(data, Math.min(data.length, place.to + around));
  const more = html`<button class="compact" onClick=${() => setAround(around * 4)}>${t("document.more")}</button>`;
  return html`<article class="doc-text" tabindex="0" aria-label=${t("document.text")}>
    ${first > 0 && more}
    <div class="pre">${data.slice(first, place.from)}${place.to > place.from && html`<mark ref=${marked}>${data.slice(place.from, place.to)}</mark>`}${data.slice(place.to, last)}</div>
    ${last < data.length && more}
  </article>`;
}

// The page as it looks: fetched with the key, shown from memory.
function PageView({ id, page, start, end }) {
  const [wanted, setWanted] = useState(page ?? 1);
  const [state, setState] = useState({});
  useEffect(() => {
    let address = null;
    const place = start === undefined ? "" : `&start=${start}&end=${end}`;
    const load = async () => {
      const response = await request("GET", `/documents/${id}/pages/${wanted}.png?width=1200${place}`);
      address = URL.createObjectURL(await response.blob());
      const marked = response.headers.get("X-Marked") === "true";
      setState({ address, marked, wanted, pages: Number(response.headers.get("X-Page-Count")) });
    };
    load().catch((problem) => setState({ problem }));
    return () => address && URL.revokeObjectURL(address);
  }, [id, wanted]);
  if (state.problem) return html`<${Trouble} problem=${state.problem} />`;
  if (!state.address) return html`<${Loading} />`;
  const turn = (by) => setWanted(Math.min(state.pages, Math.max(1, wanted + by)));
  return html`<div class="doc-page">
    <div class="row">
      <button class="compact only-icon" aria-label=${t("page.before")} disabled=${wanted <= 1} onClick=${() => turn(-1)}><${Icon} name="left" /></button>
      <span class="number" aria-live="polite">${t("page.of", { number: wanted, pages: state.pages })}</span>
      <button class="compact only-icon" aria-label=${t("page.after")} disabled=${wanted >= state.pages} onClick=${() => turn(1)}><${Icon} name="right" /></button>
      ${state.marked && html`<span class="chip warn">${t("page.marked")}</span>`}
    </div>
    <div class="sheet" tabindex="0" role="group" aria-label=${t("document.page")}><img src=${state.address} alt=${t(state.marked ? "page.alt.marked" : "page.alt", { number: wanted })} /></div>
  </div>`;
}

function ChunksView({ id }) {
  const [offset, setOffset] = useState(0);
  const { data, problem } = useLoaded(() => get(`/documents/${id}/chunks?limit=${CHUNKS}&offset=${offset}`), [id, offset]);
  if (problem) return html`<${Trouble} problem=${problem} />`;
  if (!data) return html`<${Loading} />`;
  return html`<div class="stack doc-chunks" tabindex="0" role="group" aria-label=${t("document.chunks")}>
    <ol class="passages" start=${offset + 1}>${data.chunks.map((chunk, index) => html`<li class="passage" key=${chunk.id}>
      <div class="row spread small soft"><span><strong>${number(offset + index + 1)}</strong>${chunk.section && ` · ${chunk.section}`}${chunk.page !== null && ` · ${t("page", { number: chunk.page })}`}</span>
        <span class="number">${number(chunk.start)}–${number(chunk.end)}</span></div>
      <p class="text">${chunk.text}</p></li>`)}</ol>
    <${Pager} total=${data.total} limit=${CHUNKS} offset=${offset} onOffset=${setOffset} />
  </div>`;
}

function Inside({ target, close }) {
  const { data, problem } = useLoaded(() => get(`/documents/${target.id}`), [target.id]);
  const [chosen, setChosen] = useState(null);
  if (problem) return html`<div class="inside"><${Trouble} problem=${problem} /><div><button onClick=${close} autofocus>${t("close")}</button></div></div>`;
  if (!data) return html`<div class="inside"><${Loading} /></div>`;
  const views = [data.media_type === PDF && "page", data.status === "ready" && "text", data.status === "ready" && "chunks"].filter(Boolean);
  const view = chosen ?? (target.page ? views[0] : views.find((each) => each !== "page") ?? views[0]);
  return html`<header class="doc-head">
      <div class="grow"><h2 class="break">${data.title}</h2>
        <p class="small soft">${[data.media_type, bytes(data.bytes), data.chunks !== null && t("chunks", { count: number(data.chunks) }), data.collection, when(data.created_at)].filter(Boolean).join(" · ")}</p></div>
      <button class="bare only-icon" onClick=${close} aria-label=${t("close")} autofocus><${Icon} name="close" /></button>
    </header>
    <div class="doc-tabs"><div class="segments" role="group" aria-label=${t("document.views")}>
      ${views.map((each) => html`<button key=${each} aria-pressed=${each === view} onClick=${() => setChosen(each)}>${t(`document.${each}`)}</button>`)}
    </div></div>
    ${data.error && html`<div class="doc-body"><${Trouble} problem=${data.error} /></div>`}
    <div class="doc-body">
      ${view === "text" && html`<${TextView} ...${target} />`}
      ${view === "page" && html`<${PageView} ...${target} />`}
      ${view === "chunks" && html`<${ChunksView} id=${target.id} />`}
    </div>`;
}

export function DocumentDialog() {
  const { target } = shown.use();
  if (!target) return null;
  return html`<${Dialog} wide label=${t("document")} onClose=${() => shown.set({ target: null })}>
    ${(close) => html`<${Inside} target=${target} close=${close} />`}<//>`;
}
