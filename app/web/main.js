// The page: signing in, then one view at a time, chosen by the address after #.
import { lookUp } from "./api.js";
import { language, languageName, loadLanguage, otherLanguage, switchLanguage, t } from "./i18n.js";
import { Loading, Toasts } from "./parts/basics.js";
import { DocumentDialog } from "./parts/document.js";
import { Icon } from "./parts/icons.js";
import { has, isDark, may, session, signedIn, signOut, toggleTheme } from "./session.js";
import { html, render, useEffect, useRef, useState } from "./vendor/preact-htm.js";
import { Access } from "./views/access.js";
import { Adapters } from "./views/adapters.js";
import { Admin } from "./views/admin.js";
import { Ask } from "./views/ask.js";
import { Documents } from "./views/documents.js";
import { Evaluation } from "./views/evaluation.js";
import { Health } from "./views/health.js";
import { SignIn } from "./views/sign-in.js";

// scopes: any one of them opens the view; none: every key does.
const VIEWS = [
  { name: "ask", view: Ask, scopes: ["ask"] },
  { name: "documents", view: Documents, scopes: ["ask", "ingest"] },
  { name: "adapters", view: Adapters, scopes: ["train"] },
  { name: "evaluation", view: Evaluation, scopes: ["train"], needs: ["post", "/evaluate"] },
  { name: "access", view: Access, scopes: ["admin"] },
  { name: "admin", view: Admin, scopes: ["operator"] },
  { name: "health", view: Health },
];
const LOGO = new URL("./icon.svg", import.meta.url).pathname;

const views = () => VIEWS.filter(({ scopes, needs }) => (!scopes || may(...scopes)) && (!needs || has(...needs)));

function useAddress() {
  const [address, setAddress] = useState(location.hash);
  useEffect(() => {
    const changed = () => setAddress(location.hash);
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return address.replace(/^#\/?/, "").split(/[/?]/)[0];
}

const Brand = () => html`<a class="brand" href="#/"><img src=${LOGO} alt="" />Lorebase</a>`;

function Switches({ leave = false }) {
  const other = otherLanguage();
  return html`<div class="switches">
    <button class="bare compact only-icon" onClick=${toggleTheme} aria-label=${t(isDark() ? "theme.light" : "theme.dark")}
      title=${t(isDark() ? "theme.light" : "theme.dark")}><${Icon} name=${isDark() ? "sun" : "moon"} /></button>
    <button class="bare compact" lang=${other} onClick=${switchLanguage}>${languageName(other)}</button>
    ${leave && html`<button class="bare compact only-icon" onClick=${() => signOut()} aria-label=${t("signout")} title=${t("signout")}>
      <${Icon} name="exit" /></button>`}
  </div>`;
}

function Shell() {
  const shown = views();
  const address = useAddress();
  const current = shown.find((each) => each.name === address) ?? shown[0];
  const main = useRef(null);
  const first = useRef(true);
  useEffect(() => {
    document.title = `${t(`nav.${current.name}`)} · Lorebase`;
    if (first.current) first.current = false;
    else main.current.focus();
  }, [current.name, language.get().code]);
  return html`<a class="skip" href="#content" onClick=${(event) => {
    event.preventDefault();
    main.current.focus();
  }}>${t("skip")}</a>
  <div class="shell">
    <header class="top"><${Brand} /><${Switches} leave /></header>
    <div class="side">
      <${Brand} />
      <nav class="nav" aria-label=${t("nav")}>
        ${shown.map(({ name }) => html`<a key=${name} href="#/${name}" aria-current=${name === current.name ? "page" : undefined}>
          <${Icon} name=${name} /><span>${t(`nav.${name}`)}</span></a>`)}
      </nav>
      <footer>
        <${Switches} leave />
        <a href="docs">${t("nav.api")}</a>
      </footer>
    </div>
    <main id="content" tabindex="-1" ref=${main}><${current.view} key=${current.name} /></main>
  </div>
  <${DocumentDialog} />`;
}

function Page() {
  language.use();
  const { key, role, theme } = session.use();
  const [checking, setChecking] = useState(Boolean(key) && !role);
  useEffect(() => {
    if (!checking) return;
    lookUp(key)
      .then((found) => signedIn(key, found))
      .catch(signOut)
      .finally(() => setChecking(false));
  }, []);
  if (checking) return html`<main class="door"><div><${Brand} /><${Loading} /></div></main>`;
  return html`${key && role ? html`<${Shell} key="in" />` : html`<${SignIn} logo=${LOGO} switches=${html`<${Switches} />`} />`}
    <${Toasts} />`;
}

await loadLanguage();
const place = document.getElementById("page");
place.replaceChildren();  // what is told while scripts do not come
render(html`<${Page} />`, place);
