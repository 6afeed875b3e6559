// The page's words, one dictionary file per language; the choice is remembered.
import { keep } from "./session.js";
import { store } from "./store.js";

const LANGUAGES = { en: "English", zh: "中文" };
const NAME = "lorebase.language";
const HERE = new URL("./i18n/", import.meta.url);

export const language = store({ code: "en", words: {} });

function preferred() {
  let chosen = null;
  try {
    chosen = localStorage.getItem(NAME);
  } catch {
    // nothing is remembered
  }
  if (chosen in LANGUAGES) return chosen;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

async function use(code) {
  const response = await fetch(new URL(`${code}.json`, HERE));
  if (!response.ok) throw new Error(`the dictionary ${code} cannot be loaded`);
  const words = await response.json();
  document.documentElement.lang = code === "zh" ? "zh-Hans" : code;
  language.set({ code, words });
}

export const loadLanguage = () => use(preferred());

export const otherLanguage = () => (language.get().code === "zh" ? "en" : "zh");
export const languageName = (code) => LANGUAGES[code];

export async function switchLanguage() {
  const code = otherLanguage();
  await use(code);
  keep(localStorage, NAME, code);
}

// The words under a key, with {name} replaced by values; an unknown key shows itself.
export function t(key, values = {}) {
  const words = language.get().words[key] ?? key;
  return words.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

const locale = () => (language.get().code === "zh" ? "zh-CN" : "en-GB");

export const number = (value, digits = 0) =>
  new Intl.NumberFormat(locale(), { maximumFractionDigits: digits, minimumFractionDigits: 0 }).format(value);
export const percent = (value) => new Intl.NumberFormat(locale(), { style: "percent" }).format(value);
export const when = (iso) =>
  iso ? new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "short" }).format(new Date(iso)) : "";

export const time = (milliseconds) => new Intl.DateTimeFormat(locale(), { timeStyle: "medium" }).format(new Date(milliseconds));
export const day = (iso) => new Intl.DateTimeFormat(locale(), { dateStyle: "medium" }).format(new Date(iso));

export function bytes(count) {
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (count >= size) return `${number(count / size, 1)} ${unit}`;
  }
  return `${number(count)} B`;
}
