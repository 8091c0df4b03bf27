// Before anything is drawn, so that no light page flashes up in the dark. What was chosen goes before what the system says.
"use strict";
try {
  const chosen = localStorage.getItem("nanochat.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // storage may be forbidden; the system's theme serves
}
