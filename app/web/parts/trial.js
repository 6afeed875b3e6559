// A version beside the active one: on a share of the requests, in the shadow, or before the gate; and what came of it.
import { followJob, get, post } from "../api.js";
import { number, percent, t, when } from "../i18n.js";
import { has } from "../session.js";
import { html, useState } from "../vendor/preact-htm.js";
import { Field, JobBar, Note, toast, Trouble } from "./basics.js";
import { BarChart } from "./charts.js";
import { QuestionFile, readQuestions } from "./question-set.js";
import { Verdict } from "./verdict.js";

const share = (value) => (value === null || value === undefined ? "–" : percent(value));

function Arm({ name, arm }) {
  return html`<tr><th scope="row">${name}</th><td class="right number">${number(arm.answers)}</td><td class="right number">${number(arm.abstained)}</td>
    <td class="right number">${share(arm.confidence)}</td><td class="right number">${number(arm.good)} / ${number(arm.bad)}</td></tr>`;
}

function Running({ adapter, act }) {
  const { version, percent: asked, mode, since, candidate, active, shadow } = adapter.trial;
  const name = `${adapter.name}@${version}`;
  const arms = [[name, candidate], [`${adapter.name}@${adapter.active}`, active]].filter(([, arm]) => arm);
  return html`<${Note} role="status"><div class="stack">
    <div class="row spread"><strong>${t(`trial.${mode}.runs`, { name, share: percent(asked / 100) })}</strong>
      <button class="compact" onClick=${() => act(() => post(`/adapters/${adapter.name}/canary`, { version, percent: 0, mode }), t("trial.ended", { name }))}>${t("trial.end")}</button></div>
    <p class="small soft">${t("trial.since", { when: when(since) })} ${mode === "canary" && t("trial.watched")}</p>
    ${arms.length > 0 && html`<div class="scroll" tabindex="0" role="group" aria-label=${t("trial.figures", { name })}><table>
      <thead><tr>${["version", "answers", "abstained", "confidence", "thumbs"].map((column, index) => html`<th key=${column} class=${index ? "right" : ""}>${t(`trial.${column}`)}</th>`)}</tr></thead>
      <tbody>${arms.map(([arm, counts]) => html`<${Arm} key=${arm} name=${arm} arm=${counts} />`)}</tbody></table></div>
      ${arms.some(([, arm]) => arm.confidence !== null) && html`<${BarChart} label=${t("trial.chart")} rows=${arms.map(([arm, { confidence }]) => ({ name: arm, value: 100 * (confidence ?? 0) }))} /><p class="small soft">${t("trial.chart")}</p>`}`}
    ${shadow && html`<p>${t("trial.compared", { compared: number(shadow.compared), same: number(shadow.same), f1: share(shadow.f1), confidence: share(shadow.confidence) })}</p>`}
  </div><//>`;
}

function VersionPicker({ versions, value, onChange }) {
  return html`<${Field} label=${t("trial.version")}>${(id) => html`<select id=${id} value=${value} onChange=${(event) => onChange(Number(event.target.value))}>
    ${versions.map((version) => html`<option key=${version} value=${version}>${version}</option>`)}</select>`}<//>`;
}

function TryOut({ adapter, others, act }) {
  const [version, setVersion] = useState(others.at(-1));
  const [asked, setAsked] = useState("10");
  const [mode, setMode] = useState("canary");
  const start = (event) => {
    event.preventDefault();
    act(() => post(`/adapters/${adapter.name}/canary`, { version, percent: Number(asked), mode }), t("trial.started", { name: `${adapter.name}@${version}` }));
  };
  return html`<details><summary>${t("trial.open")}</summary><form class="stack" onSubmit=${start}>
    <p class="soft">${t("trial.text")}</p>
    <div class="fields">
      <${VersionPicker} versions=${others} value=${version} onChange=${setVersion} />
      <${Field} label=${t("trial.mode")}>${(id) => html`<select id=${id} value=${mode} onChange=${(event) => setMode(event.target.value)}>
        ${["canary", "shadow"].map((each) => html`<option key=${each} value=${each}>${t(`trial.${each}`)}</option>`)}</select>`}<//>
      <${Field} label=${t("trial.share")}>${(id) => html`<input id=${id} type="number" min="0.1" max="100" step="any" required value=${asked} onInput=${(event) => setAsked(event.target.value)} />`}<//>
    </div>
    <div><button class="first">${t("trial.start")}</button></div>
  </form></details>`;
}

function Gate({ adapter, versions, reload }) {
  const [version, setVersion] = useState(versions.at(-1));
  const [file, setFile] = useState(null);
  const [promote, setPromote] = useState(true);
  const [job, setJob] = useState(null);
  const [problem, setProblem] = useState(null);
  const [decided, setDecided] = useState(null);
  const start = async (event) => {
    event.preventDefault();
    setProblem(null);
    setDecided(null);
    try {
      const begun = await post(`/adapters/${adapter.name}/versions/${version}/gate`, { ...(await readQuestions(file)), promote });
      toast(t("gate.started"));
      const ended = await followJob(begun.job_id, setJob);
      if (ended.error) setProblem(ended.error);
      else setDecided((await get(`/evaluations/${begun.evaluation_id}`)).gate);
    } catch (error) {
      setProblem(error);
    }
    setJob(null);
    reload();
  };
  return html`<details><summary>${t("gate.open")}</summary><form class="stack" onSubmit=${start}>
    <p class="soft">${t("gate.text")} <a href="#/evaluation">${t("evaluation.earlier")}</a></p>
    <div class="fields">
      <${VersionPicker} versions=${versions} value=${version} onChange=${setVersion} />
      <${QuestionFile} onChange=${setFile} />
      <label class="check"><input type="checkbox" checked=${promote} onChange=${(event) => setPromote(event.target.checked)} /> ${t("gate.promote")}</label>
    </div>
    ${job && html`<${JobBar} job=${job} label=${t("evaluation.asking")} />`}
    ${problem && html`<${Trouble} problem=${problem} />`}
    ${decided && html`<${Verdict} gate=${decided} />`}
    <div><button class="first" disabled=${!file || job !== null}>${t("gate.start")}</button></div>
  </form></details>`;
}

function History({ adapter }) {
  if (adapter.history.length === 0) return null;
  return html`<details><summary>${t("history")}</summary><ol class="stack">
    ${adapter.history.slice(0, 20).map(({ at, event, version, reason }) => html`<li key=${`${at} ${event}`} class="row spread">
      <span><strong>${t(`history.${event}`, { name: `${adapter.name}@${version}` })}</strong> <span class="soft break">${reason}</span></span><span class="small soft">${when(at)}</span></li>`)}
  </ol></details>`;
}

export function Trial({ adapter, act, reload }) {
  const versions = adapter.versions.map(({ version }) => version);
  const others = versions.filter((version) => version !== adapter.active);
  const canTry = has("post", "/adapters/{name}/canary") && adapter.active !== null && others.length > 0;
  return html`${adapter.trial && html`<${Running} adapter=${adapter} act=${act} />`}
    ${canTry && !adapter.trial && html`<${TryOut} adapter=${adapter} others=${others} act=${act} />`}
    ${has("post", "/adapters/{name}/versions/{version}/gate") && html`<${Gate} adapter=${adapter} versions=${versions} reload=${reload} />`}
    <${History} adapter=${adapter} />`;
}
