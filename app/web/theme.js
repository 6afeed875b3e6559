// The chosen theme, set before anything is drawn; without one the system's preference holds.
"use strict";

try {
  const theme = localStorage.getItem("lorebase.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage may be forbidden; then the system's preference holds.
}
