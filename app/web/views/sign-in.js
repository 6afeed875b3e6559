// The door: a key, and a clear word when it is wrong.
import { lookUp } from "../api.js";
import { t } from "../i18n.js";
import { Field, Trouble } from "../parts/basics.js";
import { session, signedIn } from "../session.js";
import { html, useEffect, useState } from "../vendor/preact-htm.js";

export function SignIn({ logo, switches }) {
  const { notice } = session.use();
  const [key, setKey] = useState("");
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    document.title = `${t("signin")} · Lorebase`;
  });
  const enter = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      signedIn(key.trim(), await lookUp(key.trim()));
    } catch (error) {
      setProblem(error.status === 401 ? t("signin.wrong") : error);
      setBusy(false);
    }
  };
  return html`<main class="door"><div>
    <div class="brand"><img src=${logo} alt="" />Lorebase</div>
    <h1 class="lead">${t("signin.lead")}</h1>
    <form class="card" onSubmit=${enter}>
      <${Field} label=${t("signin.key")} hint=${t("signin.hint")}>${(id) => html`<input id=${id} type="password" autocomplete="off"
        spellcheck=${false} required autofocus value=${key} onInput=${(event) => setKey(event.target.value)} />`}<//>
      ${(problem ?? notice) && html`<${Trouble} problem=${problem ?? notice} />`}
      <button class="first" disabled=${busy || !key.trim()}>${t("signin")}</button>
    </form>
    <p class="small soft">${t("signin.kept")}</p>
    ${switches}
  </div></main>`;
}
