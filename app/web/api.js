// The HTTP API: one place that adds the key, reads problem JSON, and follows server-sent events.
import { t } from "./i18n.js";
import { session, signOut } from "./session.js";

const ROOT = new URL("../", import.meta.url);

// `values`: further fields of the problem JSON, such as limit and used; the page's own words may hold them.
export class Problem extends Error {
  constructor(status, code, detail, values = {}) {
    super(detail);
    this.status = status;
    this.code = code;
    this.values = values;
  }
}

const address = (path) => new URL(path.replace(/^\//, ""), ROOT);

// Header values are bytes: a key that is not ASCII goes as UTF-8.
const bearer = (key) => `Bearer ${String.fromCharCode(...new TextEncoder().encode(key))}`;

function problemOf(status, text, again) {
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    // not from this service, or cut off
  }
  const values = again === null ? body : { ...body, retry_after: again };
  return new Problem(status, body.code ?? "error", body.detail ?? t("error.status", { status }), values);
}

function lost(problem) {
  if (problem.status === 401 && session.get().role) signOut(t("signin.ended"));
  return problem;
}

// A response, or a Problem thrown. `json` is sent as a body; `key` is another key than the session's.
export async function request(method, path, { json, form, headers, signal, key = session.get().key } = {}) {
  let response;
  try {
    response = await fetch(address(path), {
      method,
      headers: {
        Authorization: bearer(key),
        ...(json === undefined ? {} : { "Content-Type": "application/json" }),
        ...headers,
      },
      body: json === undefined ? form : JSON.stringify(json),
      signal,
      cache: "no-store",
      credentials: "omit",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "unreachable", t("error.unreachable"));
  }
  if (!response.ok) throw lost(problemOf(response.status, await response.text(), response.headers.get("Retry-After")));
  return response;
}

export async function call(method, path, options) {
  const response = await request(method, path, options);
  return response.status === 204 ? null : response.json();
}

export const get = (path, options) => call("GET", path, options);
export const post = (path, json, options) => call("POST", path, { json, ...options });
export const remove = (path) => call("DELETE", path);

// Server-sent events of a response, as [name, data] pairs.
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      held += value;
      const blocks = held.split("\n\n");
      held = blocks.pop();
      for (const block of blocks) {
        const lines = block.split("\n");
        const name = lines.find((line) => line.startsWith("event: "))?.slice(7) ?? "message";
        const data = lines.filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
        if (data) yield [name, JSON.parse(data)];
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Follow a job to its end; `told` is called with every state of it.
export async function followJob(id, told, signal) {
  const response = await request("GET", `/jobs/${id}/events`, { signal });
  let job = null;
  for await (const [, data] of events(response)) {
    job = data;
    told(job);
  }
  return job;
}

// A form with files: XMLHttpRequest, since fetch does not tell how much was sent.
export function send(path, form, sent, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address(path));
    request.setRequestHeader("Authorization", bearer(session.get().key));
    request.upload.onprogress = (event) => event.lengthComputable && sent(event.loaded / event.total);
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) resolve(JSON.parse(request.responseText));
      else reject(lost(problemOf(request.status, request.responseText, request.getResponseHeader("Retry-After"))));
    };
    request.onerror = () => reject(new Problem(0, "unreachable", t("error.unreachable")));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal?.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

// Whose key this is, what it opens, and what the server can do. Throws the Problem of an unknown key.
export async function lookUp(key) {
  const paths = (await (await fetch(address("/openapi.json"))).json()).paths;
  const { tenant_id, key_id, scopes, collections } = await get("/key", { key });
  return { role: tenant_id ? "tenant" : "admin", tenant: tenant_id, keyId: key_id, scopes, collections, paths };
}
