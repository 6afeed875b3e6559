// The page's words, one dictionary file per language; the choice is remembered. The service itself speaks English: other
// languages have a second file, of words for the codes of its problems.
import { keep } from "./session.js";
import { store } from "./store.js";

const LANGUAGES = { en: "English", zh: "中文" };
const NAME = "lorebase.language";
const HERE = new URL("./i18n/", import.meta.url);

export const language = store({ code: "en", words: {}, problems: {} });

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

async function dictionary(name) {
  const response = await fetch(new URL(`${name}.json`, HERE));
  if (!response.ok) throw new Error(`the dictionary ${name} cannot be loaded`);
  return response.json();
}

async function use(code) {
  const [words, problems] = await Promise.all([dictionary(code), code === "en" ? {} : dictionary(`problems.${code}`)]);
  document.documentElement.lang = code === "zh" ? "zh-Hans" : code;
  language.set({ code, words, problems });
}

export const loadLanguage = () => use(preferred());

export const otherLanguage = () => (language.get().code === "zh" ? "en" : "zh");
export const languageName = (code) => LANGUAGES[code];

export async function switchLanguage() {
  const code = otherLanguage();
  await use(code);
  keep(localStorage, NAME, code);
}

const filled = (words, values) => words.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));

// The words under a key, with {name} replaced by values; an unknown key shows itself.
export const t = (key, values = {}) => filled(language.get().words[key] ?? key, values);

const NAMED = { quota: "usage", needs: "scope" }; // values of a problem that have words in the dictionary

function shownValue(name, value) {
  const one = (each) => language.get().words[`${NAMED[name]}.${each}`] ?? String(each);
  return [value].flat().map(one).join("、");
}

// What went wrong, in words: {text}, and {detail} where the text is the page's and the server said more, in English.
export function told(problem) {
  if (!(problem instanceof Error)) return { text: problem };
  const words = language.get().problems[problem.code];
  if (words === undefined) return { text: problem.message };
  const values = Object.fromEntries(Object.entries(problem.values ?? {}).map(([name, value]) => [name, shownValue(name, value)]));
  const text = filled(words, values);
  return /\{\w+\}/.test(text) ? { text: problem.message } : { text, detail: problem.message };
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
