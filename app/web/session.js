// Who is signed in, and how the page looks. The key lives as long as the tab; theme and language are remembered.
import { forgetPerson, store } from "./store.js";

const KEY = "lorebase.key";
const THEME = "lorebase.theme";

function kept(storage, name) {
  try {
    return storage.getItem(name);
  } catch {
    return null; // storage is forbidden: nothing is remembered
  }
}

export function keep(storage, name, value) {
  try {
    if (value === null) storage.removeItem(name);
    else storage.setItem(name, value);
  } catch {
    // see kept()
  }
}

// role: null until the key was checked, then "tenant" or "admin"; tenant: its id; scopes, collections: what the key
// opens; paths: those of the server's OpenAPI document.
export const session = store({
  key: kept(sessionStorage, KEY),
  role: null,
  tenant: null,
  keyId: null,
  scopes: [],
  collections: null,
  paths: {},
  notice: null,
  theme: kept(localStorage, THEME),
});

// `found`: what api.js looked up of the key.
export function signedIn(key, found) {
  keep(sessionStorage, KEY, key);
  session.set({ ...found, key, notice: null });
}

export function signOut(notice = null) {
  keep(sessionStorage, KEY, null);
  forgetPerson();
  session.set({ key: null, role: null, tenant: null, keyId: null, scopes: [], collections: null, notice });
}

// Whether the server has a route, such as has("post", "/feedback").
export function has(method, path) {
  return Boolean(session.get().paths[path]?.[method]);
}

// Whether the key has one of the scopes.
export const may = (...scopes) => scopes.some((scope) => session.get().scopes.includes(scope));

export function isDark() {
  const { theme } = session.get();
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

export function toggleTheme() {
  const theme = isDark() ? "light" : "dark";
  keep(localStorage, THEME, theme);
  document.documentElement.dataset.theme = theme;
  session.set({ theme });
}
