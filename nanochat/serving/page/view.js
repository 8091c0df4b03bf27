// How the conversation looks: an element for each message, which follows what becomes of it.

import { markdown } from "./markdown.js";

const SVG = "http://www.w3.org/2000/svg";

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

function button(name, label, act) {
  const node = element("button", "quiet bare", icon(name));
  node.type = "button";
  node.title = label;
  node.setAttribute("aria-label", label);
  node.addEventListener("click", () => act(node));
  return node;
}

async function copy(text, node) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // only pages from https or this machine may write to the clipboard: the old way works everywhere
    const area = element("textarea", "unseen", text);
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    node.focus();
  }
  node.replaceChildren(icon("done"));
  setTimeout(() => node.replaceChildren(icon("copy")), 1200);
  say("Copied");
}

// Tells those who listen to the page instead of looking at it.
export function say(text) {
  document.getElementById("status").textContent = text;
}

const NOTES = { stopped: "Stopped.", length: "Cut off here: no more room, or as long as the settings allow." };

export class View {
  constructor(chat, log, scroller) {
    this.chat = chat;
    this.log = log;
    this.scroller = scroller;
    this.drawn = new Map(); // the element of each message
    this.due = new Set(); // messages to draw at the next frame
    this.editing = null;
    chat.addEventListener("list", () => this.drawAll());
    chat.addEventListener("update", ({ detail }) => this.drawSoon(detail.message));
  }

  drawAll() {
    const following = this.atEnd;
    const messages = this.chat.messages;
    for (const message of this.drawn.keys()) if (!messages.includes(message)) this.drawn.delete(message);
    this.log.replaceChildren(
      ...messages.map((message) => {
        if (!this.drawn.has(message)) this.drawn.set(message, this.create(message));
        return this.drawn.get(message);
      }),
    );
    for (const message of messages) this.draw(message);
    if (following || this.chat.busy) this.toEnd();
  }

  // As often as the screen shows something new, not as often as something comes.
  drawSoon(message) {
    this.due.add(message);
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      const following = this.atEnd;
      for (const one of this.due) if (this.drawn.has(one)) this.draw(one);
      this.due.clear();
      if (following) this.toEnd();
    });
  }

  get atEnd() {
    const { scrollTop, clientHeight, scrollHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < 80;
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  create(message) {
    const mine = message.role === "user";
    const item = element("li", `message ${mine ? "mine" : "its"}`);
    item.append(element("h2", "unseen", mine ? "You" : "Assistant"), element("div", "body"), element("div", "below"));
    return item;
  }

  draw(message) {
    const item = this.drawn.get(message);
    if (message.role === "user") this.drawQuestion(message, item);
    else this.drawAnswer(message, item);
  }

  drawQuestion(message, item) {
    const [, body, below] = item.children;
    if (this.editing === message) return;
    body.replaceChildren(element("p", "said", message.content));
    below.replaceChildren(
      button("edit", "Edit", () => this.edit(message)),
      button("copy", "Copy", (node) => copy(message.content, node)),
    );
  }

  drawAnswer(message, item) {
    const [, body, below] = item.children;
    const plain = this.chat.model?.chat === false;
    item.classList.toggle("pending", Boolean(message.pending));
    item.classList.toggle("waiting", Boolean(message.pending) && !message.content);
    item.setAttribute("aria-busy", String(Boolean(message.pending)));
    const children = [];
    if (message.dropped) {
      const one = message.dropped === 1;
      const what = one ? "The oldest message was left out: it no longer fits" : `The oldest ${message.dropped} messages were left out: they no longer fit`;
      children.push(element("p", "aside", `${what} into what the model can read.`));
    }
    const text = plain ? element("p", "said", message.content) : markdown(message.content);
    children.push(element("div", "text", text), ...calls(message));
    if (NOTES[message.note] && !message.pending) children.push(element("p", "aside", NOTES[message.note]));
    if (message.error) children.push(this.error(message));
    body.replaceChildren(...children);
    for (const block of body.querySelectorAll(".code")) {
      block.append(button("copy", "Copy the code", (node) => copy(block.querySelector("code").textContent, node)));
    }
    below.replaceChildren();
    if (message.pending) return;
    if (message.content) below.append(button("copy", "Copy", (node) => copy(message.content, node)));
    const last = message === this.chat.messages.at(-1);
    if (last && !message.error) below.append(button("retry", "Try again", (node) => this.retry(node)));
    if (message.usage) {
      const { tokens, seconds } = message.usage;
      below.append(element("span", "stats", `${tokens} tokens, ${Math.round(tokens / Math.max(seconds, 0.001))} a second`));
    }
  }

  retry(button) {
    // the button goes away: whoever has pressed it by a key goes on from the field (on a phone that opens a keyboard)
    if (button.matches(":focus-visible")) document.getElementById("ask").focus();
    this.chat.retry();
  }

  error(message) {
    const box = element("div", "error", element("p", "", message.error));
    box.setAttribute("role", "alert");
    if (message === this.chat.messages.at(-1)) {
      const again = element("button", "plain", "Try again");
      again.type = "button";
      again.addEventListener("click", () => this.retry(again));
      box.append(again);
    }
    return box;
  }

  // A question becomes a field in its place. Escape leaves it as it was.
  edit(message) {
    const item = this.drawn.get(message);
    const [, body, below] = item.children;
    const area = element("textarea", "", message.content);
    area.setAttribute("aria-label", "Your message");
    const ask = element("button", "plain", "Ask");
    const cancel = element("button", "link", "Cancel");
    ask.type = "submit";
    cancel.type = "button";
    const form = element("form", "edit", area, element("div", "ends", cancel, ask));
    const close = () => {
      this.editing = null;
      item.classList.remove("editing");
      this.draw(message);
    };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!area.value.trim()) return;
      const number = this.chat.messages.indexOf(message);
      close();
      this.chat.edit(number, area.value.trim());
      document.getElementById("ask").focus();
    });
    cancel.addEventListener("click", () => {
      close();
      below.querySelector("button").focus();
    });
    area.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        cancel.click();
      } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
    if (this.editing) this.drawn.get(this.editing)?.querySelector(".edit .link")?.click();
    this.editing = message;
    item.classList.add("editing");
    body.replaceChildren(form);
    below.replaceChildren();
    grow(area);
    area.addEventListener("input", () => grow(area));
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  }
}

// What the calculator was asked, below the answer.
function calls(message) {
  const found = [];
  for (const part of message.parts ?? []) {
    if (part.type === "python") found.push({ asked: part.text, result: "" });
    if (part.type === "python_output" && found.length) found.at(-1).result = part.text;
  }
  if (!found.length) return [];
  const list = element("ul", "calls");
  list.setAttribute("aria-label", "Calculated");
  for (const { asked, result } of found) {
    const code = element("code", "", asked);
    list.append(element("li", "", code, ...(result ? [" = ", element("code", "", result)] : [])));
  }
  return [list];
}

// A field as high as its text. (CSS will do it one day, field-sizing does in some browsers already.)
export function grow(area) {
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight + area.offsetHeight - area.clientHeight}px`;
}
