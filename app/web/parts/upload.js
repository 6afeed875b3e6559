// Where files are dropped, and how each of them fares.
import { bytes, number, t, told } from "../i18n.js";
import { clearFinished, upload, uploads } from "../uploads.js";
import { html, useRef, useState } from "../vendor/preact-htm.js";
import { Bar, Field } from "./basics.js";
import { openDocument } from "./document.js";
import { Icon } from "./icons.js";

const STATE = { waiting: "", sending: "accent", working: "accent", ready: "good", failed: "bad", cancelled: "" };

// The files of a drop, those in dropped folders too.
async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  const found = [];
  const walk = async (entry) => {
    if (entry.isFile) return found.push(await new Promise((done, failed) => entry.file(done, failed)));
    const reader = entry.createReader();
    for (;;) {
      const portion = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (portion.length === 0) return undefined;
      for (const inner of portion) await walk(inner);
    }
  };
  for (const entry of entries) await walk(entry);
  return found;
}

function progress({ state, share, stage, chunks, waiting }) {
  if (state === "sending") return { value: share, words: t("upload.sent", { percent: Math.round(share * 100) }) };
  if (state === "working" && chunks) return { value: chunks.done / chunks.total, words: t("upload.chunks", { done: number(chunks.done), total: number(chunks.total) }) };
  if (state === "working") return { value: null, words: waiting ?? t(`stage.${stage ?? "queued"}`) };
  return null;
}

function Reason({ problem }) {
  const { text, detail } = told(problem);
  return html`<p class="small problem">${text}${detail && html` <span class="soft" lang="en">${detail}</span>`}</p>`;
}

function Upload({ each }) {
  const shown = progress(each);
  const documents = each.documents ?? [];
  const only = documents.length === 1 ? documents[0] : null;
  return html`<li class="upload">
    <div class="row spread">
      <strong class="break grow">${each.name} <span class="soft small">${bytes(each.size)}</span></strong>
      <span class="row">
        <span class="chip ${STATE[each.state]}">${t(only?.duplicate && each.state === "ready" ? "upload.duplicate" : `upload.${each.state}`)}</span>
        ${only && each.state === "ready" && html`<button class="compact bare" onClick=${() => openDocument({ id: only.id })}>${t("open")}</button>`}
        ${["waiting", "sending"].includes(each.state) && html`<button class="compact bare only-icon" aria-label=${t("upload.cancel", { name: each.name })}
          onClick=${() => each.abort.abort()}><${Icon} name="close" /></button>`}
      </span>
    </div>
    ${shown && html`<${Bar} value=${shown.value} label=${each.name} /><span class="small soft">${shown.words}</span>`}
    ${each.error && html`<${Reason} problem=${each.error} />`}
    ${only?.warning && html`<p class="small soft">${only.warning}</p>`}
    ${documents.length > 1 && ["ready", "failed"].includes(each.state) && html`<details><summary>${t("upload.inside", { count: documents.length })}</summary>
      <ul class="stack small">${documents.map((one) => html`<li key=${one.id}><span class="chip ${one.status === "ready" ? "good" : "bad"}">${t(`status.${one.status}`)}</span> ${one.title}
        ${one.error && html`<span class="problem">${one.error}</span>`}</li>`)}</ul></details>`}
  </li>`;
}

export function UploadArea() {
  const { list } = uploads.use();
  const [over, setOver] = useState(false);
  const [collection, setCollection] = useState("");
  const input = useRef(null);
  const take = (files) => files.length && upload(files, collection.trim());
  const ended = list.some(({ state }) => ["ready", "failed", "cancelled"].includes(state));
  return html`<section class="stack" aria-label=${t("upload")}>
    <div class="drop ${over ? "over" : ""}"
      onDragOver=${(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave=${(event) => event.currentTarget.contains(event.relatedTarget) || setOver(false)}
      onDrop=${async (event) => {
        event.preventDefault();
        setOver(false);
        take(await filesOf(event.dataTransfer));
      }}>
      <${Icon} name="upload" />
      <div class="grow"><strong>${t("upload.drop")}</strong><p class="small soft">${t("upload.formats")}</p></div>
      <div class="row drop-controls">
        <div class="collection"><${Field} label=${t("upload.collection")}>${(id) => html`<input id=${id} type="text" maxlength="100" placeholder="default" value=${collection}
          onInput=${(event) => setCollection(event.target.value)} />`}<//></div>
        <input ref=${input} type="file" multiple hidden aria-hidden="true" tabindex="-1" onChange=${(event) => {
          take([...event.target.files]);
          event.target.value = "";
        }} />
        <button class="first" onClick=${() => input.current.click()}>${t("upload.choose")}</button>
      </div>
    </div>
    ${list.length > 0 && html`<div class="card plain stack"><div class="row spread"><h2>${t("upload.list")}</h2>
      ${ended && html`<button class="compact bare" onClick=${clearFinished}>${t("upload.clear")}</button>`}</div>
      <ul class="uploads">${list.map((each) => html`<${Upload} key=${each.id} each=${each} />`)}</ul></div>`}
    <div class="visually-hidden" role="status" aria-live="polite">${list[0] ? `${list[0].name}: ${t(`upload.${list[0].state}`)}` : ""}</div>
  </section>`;
}
