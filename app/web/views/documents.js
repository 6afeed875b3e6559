// Documents: send, find, read, try again, delete.
import { get, post, remove } from "../api.js";
import { bytes, day, number, t, when } from "../i18n.js";
import { attempt, Confirm, Empty, Field, Loading, Trouble, useLoaded, useRepeated } from "../parts/basics.js";
import { openDocument } from "../parts/document.js";
import { Icon } from "../parts/icons.js";
import { Pager } from "../parts/pager.js";
import { UploadArea } from "../parts/upload.js";
import { may } from "../session.js";
import { uploads } from "../uploads.js";
import { html, useEffect, useState } from "../vendor/preact-htm.js";

const LIMIT = 25;
const CHIP = { ready: "good", failed: "bad", pending: "accent" };

function query({ offset, title, status, collection }) {
  const fields = { limit: LIMIT, offset, title: title.trim(), status, collection: collection.trim() };
  return new URLSearchParams(Object.entries(fields).filter(([, value]) => value !== ""));
}

function Row({ document, onDelete, onRetry }) {
  const { id, title, status, error, chunks, replacement } = document;
  return html`<tr>
    <th scope="row"><button class="title" onClick=${() => openDocument({ id })}>${title}</button>
      ${error && html`<p class="small problem">${error}</p>`}
      ${replacement && html`<p class="small ${replacement.status === "failed" ? "problem" : "soft"}">${t(`replacement.${replacement.status}`)} ${replacement.error}</p>`}</th>
    <td><span class="chip ${CHIP[status]}">${t(`status.${status}`)}</span></td>
    <td class="right number soft">${status !== "ready" ? "" : t("chunks", { count: number(chunks) })}</td>
    <td class="right number soft">${bytes(document.bytes)}</td>
    <td class="soft small date" title=${when(document.created_at)}>${day(document.created_at)}</td>
    <td class="right">${may("ingest") && html`<span class="row actions">
      ${status === "failed" && html`<button class="compact" onClick=${() => onRetry(document)}><${Icon} name="retry" />${t("documents.retry")}</button>`}
      <button class="compact bare only-icon" aria-label=${t("documents.delete", { title })} title=${t("delete")} onClick=${() => onDelete(document)}><${Icon} name="trash" /></button>
    </span>`}</td>
  </tr>`;
}

export function Documents() {
  const [wanted, setWanted] = useState({ offset: 0, title: "", status: "", collection: "" });
  const [leaving, setLeaving] = useState(null);
  const { finished, list } = uploads.use();
  const { data, problem, loading, reload } = useLoaded(() => get(`/documents?${query(wanted)}`), [JSON.stringify(wanted)]);
  useEffect(reload, [finished, list.length]);
  const documents = data?.documents ?? [];
  useRepeated(reload, 2, documents.some(({ status, replacement }) => status === "pending" || replacement?.status === "pending"));
  const change = (fields) => setWanted({ ...wanted, offset: 0, ...fields });
  const filtered = wanted.title || wanted.status || wanted.collection;
  const retry = async ({ id }) => {
    await attempt(() => post(`/documents/${id}/retry`), t("documents.retried"));
    reload();
  };
  return html`<div class="view">
    <header><div><h1>${t("documents.title")}</h1><p>${t("documents.lead")}</p></div></header>
    ${may("ingest") && html`<${UploadArea} />`}
    <section class="card stack" aria-label=${t("documents.list")} aria-busy=${loading}>
      <div class="fields">
        <${Field} label=${t("documents.search")}>${(id) => html`<input id=${id} type="search" value=${wanted.title} onInput=${(event) => change({ title: event.target.value })} />`}<//>
        <${Field} label=${t("documents.status")}>${(id) => html`<select id=${id} value=${wanted.status} onChange=${(event) => change({ status: event.target.value })}>
          <option value="">${t("all")}</option>${["ready", "pending", "failed"].map((status) => html`<option key=${status} value=${status}>${t(`status.${status}`)}</option>`)}</select>`}<//>
        <${Field} label=${t("option.collection")}>${(id) => html`<input id=${id} type="text" value=${wanted.collection} placeholder=${t("all")} onInput=${(event) => change({ collection: event.target.value })} />`}<//>
      </div>
      ${problem && html`<${Trouble} problem=${problem} />`}
      ${!data && !problem && html`<${Loading} />`}
      ${data && documents.length === 0 && html`<${Empty} title=${t(filtered ? "documents.nothing" : "documents.none")}><p>${t(filtered ? "documents.nothing.text" : "documents.none.text")}</p><//>`}
      ${documents.length > 0 && html`<table class="cards documents">
        <thead><tr><th>${t("documents.name")}</th><th>${t("documents.status")}</th><th class="right">${t("documents.chunks")}</th><th class="right">${t("documents.size")}</th><th>${t("documents.added")}</th><th><span class="visually-hidden">${t("actions")}</span></th></tr></thead>
        <tbody>${documents.map((document) => html`<${Row} key=${document.id} document=${document} onDelete=${setLeaving} onRetry=${retry} />`)}</tbody>
      </table>
      <${Pager} total=${data.total} limit=${LIMIT} offset=${wanted.offset} onOffset=${(offset) => setWanted({ ...wanted, offset })} />`}
    </section>
    ${leaving && html`<${Confirm} title=${t("documents.delete.title")} text=${t("documents.delete.text", { title: leaving.title })} action=${t("delete")}
      onYes=${async () => {
        await attempt(() => remove(`/documents/${leaving.id}`), t("documents.deleted"));
        reload();
      }} onClose=${() => setLeaving(null)} />`}
  </div>`;
}
