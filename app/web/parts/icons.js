// Line icons, drawn here; decoration beside words, hidden from screen readers.
import { html } from "../vendor/preact-htm.js";

const PATHS = {
  ask: "M4 5h16v11H9l-5 4z M8 9h8 M8 12.5h5",
  documents: "M7 3h7l5 5v13H7z M14 3v5h5 M10 13h6 M10 17h6",
  adapters: "M4 7l8-4 8 4-8 4z M4 12l8 4 8-4 M4 17l8 4 8-4",
  evaluation: "M4 20V4 M4 20h16 M8 16v-4 M12 16V8 M16 16v-6",
  admin: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8z M4 21c0-4 4-6 8-6s8 2 8 6",
  access: "M8 11a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9z M11.2 12.3L20 4 M16 8l3 3",
  health: "M3 12h4l3-8 4 16 3-8h4",
  upload: "M12 16V4 M7 9l5-5 5 5 M4 16v4h16v-4",
  trash: "M4 7h16 M9 7V4h6v3 M6 7l1 13h10l1-13 M10 11v5 M14 11v5",
  retry: "M4 12a8 8 0 1 1 2.5 5.8 M4 19v-5h5",
  close: "M6 6l12 12 M18 6L6 18",
  send: "M4 12l16-8-6 16-3-7z",
  stop: "M7 7h10v10H7z",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8z M12 2v2 M12 20v2 M2 12h2 M20 12h2 M5 5l1.4 1.4 M17.6 17.6L19 19 M19 5l-1.4 1.4 M6.4 17.6L5 19",
  moon: "M20 14A8 8 0 0 1 10 4a8 8 0 1 0 10 10z",
  exit: "M14 4h5v16h-5 M10 8l-4 4 4 4 M6 12h9",
  up: "M7 11v9H4v-9z M7 11l4-7c1.5 0 2.5 1 2.2 2.6L12.6 10H18c1.4 0 2.3 1.2 2 2.5l-1.3 5.6c-.3 1.1-1.2 1.9-2.4 1.9H7",
  down: "M7 13V4H4v9z M7 13l4 7c1.5 0 2.5-1 2.2-2.6l-.6-3.4H18c1.4 0 2.3-1.2 2-2.5l-1.3-5.6C18.4 4.8 17.5 4 16.3 4H7",
  copy: "M9 9h11v11H9z M5 15H4V4h11v1",
  warn: "M12 4l9 16H3z M12 10v4 M12 17v.5",
  options: "M4 7h9 M17 7h3 M4 17h3 M11 17h9 M15 5v4 M9 15v4",
  add: "M12 5v14 M5 12h14",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
};

export const Icon = ({ name }) => html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d=${PATHS[name]} /></svg>`;
