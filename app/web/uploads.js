// Files on their way: sent, then followed through the job until each is ready or failed.
import { followJob, send } from "./api.js";
import { personal } from "./store.js";

const AT_ONCE = 3;

// Each upload: {id, name, size, state: waiting|sending|working|ready|failed|cancelled, share, stage, chunks, documents, error}.
export const uploads = personal({ list: [], finished: 0 });
let nextId = 0;
const waiting = [];
let running = 0;

const update = (id, change) =>
  uploads.set(({ list }) => ({ list: list.map((each) => (each.id === id ? { ...each, ...change } : each)) }));

export function upload(files, collection) {
  const added = [...files].map((file) => ({ id: nextId++, name: file.name, size: file.size, state: "waiting", share: 0, abort: new AbortController() }));
  uploads.set(({ list }) => ({ list: [...added, ...list] }));
  added.forEach(({ id, abort }, index) => waiting.push({ id, abort, file: files[index], collection }));
  while (running < AT_ONCE && waiting.length) work();
}

export const clearFinished = () =>
  uploads.set(({ list }) => ({ list: list.filter(({ state }) => !["ready", "failed", "cancelled"].includes(state)) }));

async function work() {
  running++;
  for (let next = waiting.shift(); next; next = waiting.shift()) await sendOne(next);
  running--;
}

async function sendOne({ id, abort, file, collection }) {
  if (!uploads.get().list.some((each) => each.id === id)) return undefined; // who wanted it has left
  if (abort.signal.aborted) return update(id, { state: "cancelled" });
  const form = new FormData();
  form.append("files", file, file.name);
  if (collection) form.append("collection", collection);
  update(id, { state: "sending" });
  try {
    const accepted = await send("/ingest", form, (share) => update(id, { share }), abort.signal);
    update(id, { state: "working", documents: accepted.documents });
    const job = await followJob(accepted.job_id, ({ stage, chunks, waiting_for }) => update(id, { stage, chunks, waiting: waiting_for }));
    finish(id, accepted.documents, job);
  } catch (error) {
    update(id, error.name === "AbortError" ? { state: "cancelled" } : { state: "failed", error });
  }
  uploads.set(({ finished }) => ({ finished: finished + 1 }));
}

function finish(id, sent, job) {
  const documents = sent.map((one) => ({ ...one, ...job.documents.find((each) => each.id === one.id), duplicate: one.duplicate }));
  const failed = documents.filter(({ status }) => status === "failed");
  const lost = job.state === "failed" || job.state === "cancelled";
  update(id, {
    state: lost || failed.length === documents.length ? "failed" : "ready",
    documents,
    error: job.error ?? (documents.length === 1 ? failed[0]?.error : null) ?? null,
  });
}
