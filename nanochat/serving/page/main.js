// Connects the page's elements to the chat: text field, buttons, keys, and the connection to the server.

import { ApiError, ServerUnreachable, fetchModel, isReachable } from "./api.js";
import { Chat } from "./chat.js";
import { Settings } from "./settings.js";
import { read, write } from "./store.js";
import { View, announce, element, fitHeight } from "./view.js";

const $ = (id) => document.getElementById(id);
const RECONNECT_INTERVAL = 2000; // milliseconds

// Questions about the fine-tuning tasks for a chat model; beginnings of texts for a base model.
const SUGGESTIONS = {
  chat: ["What does textwrap.dedent do?", "What is 48 * 317?", "How many r are in strawberry?", "Who are you?"],
  base: ["Return a list of ", "The default value is ", "This function raises ", "import "],
};

const chat = new Chat();
const settings = new Settings($("settings"));
const view = new View(chat, $("log"), $("scroller"));
const input = $("message-input");

function drawComposer() {
  $("send").hidden = chat.busy;
  $("stop").hidden = !chat.busy;
  $("send").disabled = !input.value.trim();
  fitHeight(input);
}

function drawWelcome() {
  $("welcome").hidden = chat.messages.length > 0 || chat.model === null;
  $("restore").hidden = !chat.hasPrevious;
  $("new-chat").disabled = chat.messages.length === 0;
}

function drawModel() {
  const { id, chat: isChat, parameters, context } = chat.model;
  const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
  $("model").textContent = id;
  $("model").title = `${compact.format(parameters)} parameters, context of ${context.toLocaleString("en")} tokens`;
  document.title = `${id} · nanochat`;
  document.body.dataset.kind = isChat ? "chat" : "base";
  $("greeting").textContent = isChat ? "What would you like to know?" : "Begin a text.";
  $("explanation").textContent = isChat
    ? `${id} runs on the server's machine. Your messages go to no other service.`
    : `${id} is a base model: it continues your text, but does not answer questions. Fine-tune it for chat.`;
  input.placeholder = isChat ? "Ask a question" : "Begin a text";
  $("suggestions").replaceChildren(
    ...SUGGESTIONS[isChat ? "chat" : "base"].map((text) => {
      const suggestion = element("button", "suggestion", text);
      suggestion.type = "button";
      suggestion.addEventListener("click", () => send(text));
      return suggestion;
    }),
  );
}

function send(text) {
  if (chat.busy || !text.trim()) return;
  applySettings();
  input.value = "";
  write("draft", null);
  view.scrollToEnd();
  chat.send(chat.model?.chat === false ? text : text.trim());
  input.focus();
}

function applySettings() {
  Object.assign(chat, { sampling: settings.sampling, system: settings.system });
}

// Fetches the model's description, and retries until the server is reachable. Called again after an outage.
let connecting = false;
async function connect() {
  if (connecting) return;
  connecting = true;
  for (;;) {
    try {
      chat.model = await fetchModel();
      break;
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) {
        connecting = false;
        settings.open(true);
        return;
      }
      $("offline").hidden = !(error instanceof ServerUnreachable);
    }
    do await new Promise((done) => setTimeout(done, RECONNECT_INTERVAL));
    while (!(await isReachable()));
  }
  connecting = false;
  $("offline").hidden = true;
  settings.setModel(chat.model);
  drawModel();
  drawWelcome();
  view.drawAll();
}

chat.addEventListener("unreachable", () => {
  $("offline").hidden = false;
  connect();
});
chat.addEventListener("list", drawWelcome);
chat.addEventListener("busy", () => {
  drawComposer();
  const last = chat.messages.at(-1);
  if (chat.busy) announce("Generating the answer.");
  else if (last?.error) announce(last.error);
  else if (last?.content) announce(last.content);
});
chat.addEventListener("update", ({ detail }) => {
  if (detail.done && detail.message.status === 401) settings.open(true);
});
settings.addEventListener("key", connect);
for (const kind of ["input", "close"]) $("settings").addEventListener(kind, applySettings);

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send(input.value);
});
input.addEventListener("input", () => {
  drawComposer();
  write("draft", input.value || null);
});
input.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send(input.value);
  } else if (event.key === "ArrowUp" && !input.value && !chat.busy) {
    const last = chat.messages.findLast((message) => message.role === "user");
    if (last) {
      event.preventDefault();
      view.edit(last);
    }
  }
});
$("stop").addEventListener("click", () => {
  chat.stop();
  input.focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && chat.busy && !$("settings").open) chat.stop();
  else if (event.key === "/" && document.activeElement === document.body) {
    event.preventDefault();
    input.focus();
  }
});
$("new-chat").addEventListener("click", () => {
  chat.startNew();
  input.focus();
});
$("restore").addEventListener("click", () => {
  chat.restore();
  input.focus();
});
$("open-settings").addEventListener("click", () => settings.open());
$("theme").addEventListener("click", () => {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const current = document.documentElement.dataset.theme ?? system;
  const next = current === "dark" ? "light" : "dark";
  // the system's own theme is not stored, so that the page follows later changes of it
  if (next === system) delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    if (next === system) localStorage.removeItem("nanochat.theme");
    else localStorage.setItem("nanochat.theme", next);
  } catch {
    // storage is disabled: the theme is not kept
  }
});
$("scroller").addEventListener("scroll", () => ($("scroll-to-end").hidden = view.isAtEnd), { passive: true });
$("scroll-to-end").addEventListener("click", () => view.scrollToEnd());
// leaving the page closes its connections: stop first, so that the stored message has no error
for (const kind of ["beforeunload", "pagehide"]) {
  addEventListener(kind, () => {
    if (chat.busy) chat.save();
    chat.stop();
  });
}

input.value = read("draft", "") || "";
settings.show();
applySettings();
drawComposer();
view.drawAll();
view.scrollToEnd();
connect();
