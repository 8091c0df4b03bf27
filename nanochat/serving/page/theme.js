// Applies the stored theme before the first paint, so that the page does not flash. Without one, the system's applies.
"use strict";
try {
  const theme = localStorage.getItem("nanochat.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // storage is disabled
}
