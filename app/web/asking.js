// Asking: the options a person chose, and one question's way from its words to an answer.
import { events, get, Problem, request } from "./api.js";
import { t } from "./i18n.js";
import { personal } from "./store.js";

const UNSET = {
  top_k: "", collection: "", filter: "", template: "", min_confidence: "",
  mode: "", rerank: "", candidates: "", diversity: "", expand: "",
  max_tokens: "", temperature: "",
};

export const options = personal({ ...UNSET });
export const resetOptions = () => options.set(UNSET);
export const changedOptions = () => Object.values(options.get()).filter((value) => value !== "").length;

function number(value) {
  return value === "" ? undefined : Number(value);
}

function filterOf(text) {
  if (!text.trim()) return undefined;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(t("option.filter.bad", { reason: error.message }));
  }
}

// The fields that /ask and /search share; what is not set is left to the service.
export function searchFields() {
  const chosen = options.get();
  const retrieval = {
    mode: chosen.mode || undefined,
    rerank: chosen.rerank === "" ? undefined : chosen.rerank === "yes",
    candidates: number(chosen.candidates),
    diversity: number(chosen.diversity),
    expand: number(chosen.expand),
  };
  return {
    top_k: number(chosen.top_k),
    collection: chosen.collection.trim() || undefined,
    filter: filterOf(chosen.filter),
    retrieval: Object.values(retrieval).some((value) => value !== undefined) ? retrieval : undefined,
  };
}

function askFields() {
  const chosen = options.get();
  return {
    ...searchFields(),
    template: chosen.template || undefined,
    min_confidence: number(chosen.min_confidence),
    max_tokens: number(chosen.max_tokens),
    temperature: number(chosen.temperature),
  };
}

// Ask and stream; `told` gets {passages}, {text}, and at the end {done} or {problem}, and {milliseconds}.
export async function ask(question, { adapter, history = [], signal }, told) {
  const began = performance.now();
  let text = "";
  try {
    const response = await request("POST", "/ask", {
      json: { question, history, stream: true, ...askFields() },
      headers: adapter ? { "X-Adapter": adapter } : {},
      signal,
    });
    for await (const [name, data] of events(response)) {
      if (name === "passages") told({ passages: data.passages });
      else if (name === "token") told({ text: (text += data.text) });
      else if (name === "done") told({ done: data, text: data.answer, milliseconds: performance.now() - began });
      else if (name === "error") told({ problem: new Problem(data.status, data.code, data.detail, data) });
    }
  } catch (error) {
    told(error.name === "AbortError" ? { stopped: true } : { problem: error });
  }
}

// Every way to be answered: {value, name, version} of base, of each active version, and of each version.
export async function choices() {
  const { adapters, default: chosen } = await get("/adapters");
  const found = [];
  for (const adapter of adapters) {
    if (adapter.active !== null) found.push({ value: adapter.name, name: adapter.name, version: adapter.active, active: true });
    for (const { version } of adapter.versions) {
      found.push({ value: `${adapter.name}@${version}`, name: adapter.name, version, active: false });
    }
  }
  return { default: chosen, found };
}
