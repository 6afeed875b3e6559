// Training: a set, a method, and the loss as it falls; the job goes on when the page is left.
import { call, followJob, get, post } from "../api.js";
import { number, t } from "../i18n.js";
import { html, useEffect, useState } from "../vendor/preact-htm.js";
import { attempt, Bar, Field, toast, Trouble, useLoaded } from "./basics.js";
import { LineChart } from "./charts.js";
import { has } from "../session.js";

const METHODS = ["lora", "rslora", "dora", "ia3", "bottleneck", "prompt", "prefix", "p_tuning"];
const OBJECTIVES = ["sft", "dpo", "kto"];
const TARGETS = ["qv", "attention", "all"];
const FEEDBACK = "feedback"; // stands for the set that is made of what people said of answers
const NUMBERS = ["rank", "epochs", "learning_rate", "strength"];
const ENDED = ["succeeded", "failed", "cancelled"];

function LiveJob({ id, onEnd }) {
  const [job, setJob] = useState(null);
  const [points, setPoints] = useState([]);
  useEffect(() => {
    const abort = new AbortController();
    const told = (state) => {
      setJob(state);
      if (state.loss !== null) setPoints((before) => [...before.filter(([step]) => step < state.progress.done), [state.progress.done, state.loss]]);
    };
    const follow = async () => {
      const curve = await get(`/jobs/${id}/loss`);
      setPoints(curve.points.map(({ step, loss }) => [step, loss]));
      await followJob(id, told, abort.signal);
      const whole = await get(`/jobs/${id}/loss`);
      setPoints(whole.points.map(({ step, loss }) => [step, loss]));
      onEnd();
    };
    follow().catch((error) => error.name === "AbortError" || setJob({ state: "failed", error, progress: { done: 0, total: 0 } }));
    return () => abort.abort();
  }, [id]);
  if (!job) return null;
  const { state, stage, progress, error, loss } = job;
  const running = !ENDED.includes(state);
  return html`<div class="stack" aria-live="polite">
    <div class="row spread"><span class="chip ${state === "succeeded" ? "good" : state === "failed" ? "bad" : "accent"}">${t(`job.state.${state}`)}</span>
      <span class="small soft number">${progress.total ? `${number(progress.done)} / ${number(progress.total)}` : running && t(stage === "loading" ? "training.loading" : "stage.queued")} ${loss ? ` · ${t("training.loss")} ${number(loss, 3)}` : ""}</span></div>
    ${running && html`<${Bar} value=${progress.total && stage === "training" ? progress.done / progress.total : null} label=${t("training")} />
      <div><button class="compact" onClick=${() => attempt(() => post(`/jobs/${id}/cancel`))}>${t("cancel")}</button></div>`}
    ${error && html`<${Trouble} problem=${error} />`}
    <${LineChart} series=${[{ name: t("training.loss"), points }]} label=${t("training.curve", { first: number(points[0]?.[1] ?? 0, 2), last: number(points.at(-1)?.[1] ?? 0, 2) })} />
  </div>`;
}

function Start({ onStarted }) {
  const { data, reload } = useLoaded(() => get("/datasets"), []);
  const [order, setOrder] = useState({ name: "", dataset: "", method: "lora", objective: "sft", targets: "", rank: "", epochs: "", learning_rate: "", strength: "" });
  const [problem, setProblem] = useState(null);
  const change = (name) => (event) => setOrder({ ...order, [name]: event.target.value });
  const upload = async (event) => {
    const form = new FormData();
    form.append("file", event.target.files[0]);
    await attempt(async () => setOrder({ ...order, dataset: (await call("POST", "/datasets", { form })).id }), t("training.uploaded"));
    reload();
  };
  const start = async (event) => {
    event.preventDefault();
    const numbers = Object.fromEntries(NUMBERS.filter((name) => order[name] !== "").map((name) => [name, Number(order[name])]));
    setProblem(null);
    try {
      const dataset = order.dataset === FEEDBACK ? { feedback: true } : order.dataset;
      const body = { dataset, method: order.method, objective: order.objective, targets: order.targets || undefined, ...numbers };
      onStarted((await post(`/adapters/${encodeURIComponent(order.name.trim())}/train`, body)).id);
      toast(t("training.started"));
    } catch (error) {
      setProblem(error);
    }
  };
  const entry = (name, limits) => html`<${Field} label=${t(`training.${name}`)}>${(id) => html`<input id=${id} type="number" placeholder=${t("training.unset")} value=${order[name]} onInput=${change(name)} ...${limits} />`}<//>`;
  return html`<form class="stack" onSubmit=${start}>
    <p class="soft">${t("training.text")}</p>
    <div class="fields">
      <${Field} label=${t("adapters.name")} hint=${t("adapters.name.hint")}>${(id) => html`<input id=${id} type="text" required maxlength="63" spellcheck=${false} value=${order.name} onInput=${change("name")} />`}<//>
      <${Field} label=${t("training.set")}>${(id) => html`<select id=${id} required value=${order.dataset} onChange=${change("dataset")}>
        <option value="">${t("training.pick")}</option>
        ${has("get", "/feedback") && html`<option value=${FEEDBACK}>${t("training.feedback")}</option>`}
        ${data?.datasets.map((each) => html`<option key=${each.id} value=${each.id}>${each.name ?? each.id.slice(0, 12)} (${number(each.examples)})</option>`)}</select>`}<//>
      <${Field} label=${t("training.upload")}>${(id) => html`<input id=${id} type="file" accept=".json,.jsonl" onChange=${upload} />`}<//>
      <${Field} label=${t("training.method")}>${(id) => html`<select id=${id} value=${order.method} onChange=${change("method")}>
        ${METHODS.map((method) => html`<option key=${method} value=${method}>${method}</option>`)}</select>`}<//>
      <${Field} label=${t("training.objective")}>${(id) => html`<select id=${id} value=${order.objective} onChange=${change("objective")}>
        ${OBJECTIVES.map((each) => html`<option key=${each} value=${each}>${t(`training.objective.${each}`)}</option>`)}</select>`}<//>
      <${Field} label=${t("training.targets")}>${(id) => html`<select id=${id} value=${order.targets} onChange=${change("targets")}>
        <option value="">${t("training.unset")}</option>${TARGETS.map((each) => html`<option key=${each} value=${each}>${t(`training.targets.${each}`)}</option>`)}</select>`}<//>
      ${entry("rank", { min: 1, max: 256 })}${entry("epochs", { min: 0.01, max: 1000, step: "any" })}${entry("learning_rate", { min: 0, max: 1, step: "any" })}${entry("strength", { min: 0.01, max: 1, step: "any" })}
    </div>
    ${problem && html`<${Trouble} problem=${problem} />`}
    <div><button class="first" disabled=${!order.name.trim() || !order.dataset}>${t("training.start")}</button></div>
  </form>`;
}

// Trainings under way are found again when the page is opened anew.
export function Training({ onEnd }) {
  const [job, setJob] = useState(null);
  useEffect(() => {
    if (has("post", "/adapters/{name}/train")) get("/jobs?limit=20").then(({ jobs }) => setJob((before) => before ?? jobs.find(({ kind }) => kind === "train")?.id ?? null), () => {});
  }, []);
  if (!has("post", "/adapters/{name}/train")) return null;
  return html`<section class="card stack" aria-label=${t("training")}>
    ${job && html`<h2>${t("training.latest")}</h2><${LiveJob} key=${job} id=${job} onEnd=${onEnd} />`}
    <details><summary>${t("training.open")}</summary><${Start} onStarted=${setJob} /></details>
  </section>`;
}
