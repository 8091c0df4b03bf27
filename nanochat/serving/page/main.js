// Brings the page to life: the question's field, the buttons, the keys.

import { Refused, ServerGone, fetchModel, isThere } from "./api.js";
import { Chat } from "./chat.js";
import { Settings } from "./settings.js";
import { read, write } from "./store.js";
import { View, element, grow, say } from "./view.js";

const $ = (id) => document.getElementById(id);
const KNOCK_EVERY = 2000; // milliseconds between two looks whether the server is back

// What a beginner may try: what the tasks of fine-tuning are about, or beginnings for a base model.
const STARTERS = {
  chat: ["What does textwrap.dedent do?", "What is 48 * 317?", "How many r are in strawberry?", "Who are you?"],
  base: ["Return a list of ", "The default value is ", "This function raises ", "import "],
};

const chat = new Chat();
const settings = new Settings($("settings"));
const view = new View(chat, $("log"), $("scroller"));
const ask = $("ask");

function drawComposer() {
  $("send").hidden = chat.busy;
  $("stop").hidden = !chat.busy;
  $("send").disabled = !ask.value.trim();
  grow(ask);
}

function drawWelcome() {
  $("welcome").hidden = chat.messages.length > 0 || chat.model === null;
  $("restore").hidden = !chat.hasPrevious;
  $("new").disabled = chat.messages.length === 0;
}

function drawModel() {
  const { id, chat: answers, parameters, context } = chat.model;
  const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
  $("model").textContent = id;
  $("model").title = `${short.format(parameters)} parameters, reads and writes ${context.toLocaleString("en")} tokens`;
  document.title = `${id} · nanochat`;
  document.body.dataset.kind = answers ? "chat" : "base";
  $("greeting").textContent = answers ? "What would you like to know?" : "Begin a text.";
  $("explain").textContent = answers
    ? `${id} runs on this machine, and what you write stays on it.`
    : `${id} is a base model: it goes on with a text, but answers no question. Fine-tuning makes an assistant of it.`;
  ask.placeholder = answers ? "Ask something" : "Begin a text";
  $("starters").replaceChildren(
    ...STARTERS[answers ? "chat" : "base"].map((text) => {
      const starter = element("button", "starter", text);
      starter.type = "button";
      starter.addEventListener("click", () => send(text));
      return starter;
    }),
  );
}

function send(text) {
  if (chat.busy || !text.trim()) return;
  chat.sampling = settings.sampling;
  chat.system = settings.system;
  ask.value = "";
  write("draft", null);
  view.toEnd();
  chat.send(chat.model?.chat === false ? text : text.trim());
  ask.focus();
}

// The first meeting with the server, repeated until it succeeds; again whenever it was gone.
let knocking = false;
async function meet() {
  if (knocking) return;
  knocking = true;
  for (;;) {
    try {
      chat.model = await fetchModel();
      break;
    } catch (error) {
      if (error instanceof Refused && error.status === 401) {
        knocking = false;
        settings.open(true);
        return;
      }
      $("offline").hidden = !(error instanceof ServerGone);
    }
    do await new Promise((done) => setTimeout(done, KNOCK_EVERY));
    while (!(await isThere()));
  }
  knocking = false;
  $("offline").hidden = true;
  settings.learn(chat.model);
  drawModel();
  drawWelcome();
  view.drawAll();
}

chat.addEventListener("gone", () => {
  $("offline").hidden = false;
  meet();
});
chat.addEventListener("list", drawWelcome);
chat.addEventListener("busy", () => {
  drawComposer();
  const last = chat.messages.at(-1);
  if (chat.busy) say("The answer is coming.");
  else if (last?.error) say(last.error);
  else if (last?.content) say(last.content);
});
chat.addEventListener("update", ({ detail }) => {
  if (detail.done && detail.message.status === 401) settings.open(true);
});
settings.addEventListener("key", meet);
for (const kind of ["input", "close"]) {
  $("settings").addEventListener(kind, () => Object.assign(chat, { sampling: settings.sampling, system: settings.system }));
}
Object.assign(chat, { sampling: settings.sampling, system: settings.system });

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send(ask.value);
});
ask.addEventListener("input", () => {
  drawComposer();
  write("draft", ask.value || null);
});
ask.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send(ask.value);
  } else if (event.key === "ArrowUp" && !ask.value && !chat.busy) {
    const last = chat.messages.findLast((message) => message.role === "user");
    if (last) {
      event.preventDefault();
      view.edit(last);
    }
  }
});
$("stop").addEventListener("click", () => {
  chat.stop();
  ask.focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && chat.busy && !$("settings").open) chat.stop();
  else if (event.key === "/" && document.activeElement === document.body) {
    event.preventDefault();
    ask.focus();
  }
});
$("new").addEventListener("click", () => {
  chat.begin();
  ask.focus();
});
$("restore").addEventListener("click", () => {
  chat.restore();
  ask.focus();
});
$("open-settings").addEventListener("click", () => settings.open());
$("theme").addEventListener("click", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  const next = now === "dark" ? "light" : "dark";
  // back to what the system says, where that is the same
  if (next === (dark ? "dark" : "light")) delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    if (document.documentElement.dataset.theme) localStorage.setItem("nanochat.theme", next);
    else localStorage.removeItem("nanochat.theme");
  } catch {
    // it is only not kept
  }
});
$("scroller").addEventListener("scroll", () => ($("latest").hidden = view.atEnd), { passive: true });
$("latest").addEventListener("click", () => view.toEnd());
// a page that is left loses its connections: that is no error to be shown when one comes back
for (const kind of ["beforeunload", "pagehide"]) {
  addEventListener(kind, () => {
    if (chat.busy) chat.keep();
    chat.stop();
  });
}

ask.value = read("draft", "") || "";
settings.show();
drawComposer();
view.drawAll();
view.toEnd();
meet();
