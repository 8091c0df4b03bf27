(function () {
  var root = document.documentElement, button = document.getElementById("theme"), key = "nanochat-theme";
  function dark() {
    var chosen = root.getAttribute("data-theme");
    return chosen ? chosen === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
  }
  try {
    var kept = localStorage.getItem(key);
    if (kept === "light" || kept === "dark") root.setAttribute("data-theme", kept);
  } catch (error) { /* storage may be blocked, for example on file:// pages */ }
  button.addEventListener("click", function () {
    var next = dark() ? "light" : "dark";
    root.setAttribute("data-theme", next);
    try { localStorage.setItem(key, next); } catch (error) { /* as above */ }
  });
  var list = document.querySelector("nav details");
  if (window.matchMedia("(max-width: 60rem)").matches) list.open = false;
})();
