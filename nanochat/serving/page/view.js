// Draws the conversation: one element per message, redrawn when the message changes.

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

function iconButton(iconName, label, onClick) {
  const node = element("button", "ghost-button icon-only", icon(iconName));
  node.type = "button";
  node.title = label;
  node.setAttribute("aria-label", label);
  node.addEventListener("click", () => onClick(node));
  return node;
}

async function copy(text, node) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // the clipboard API needs https or localhost; the deprecated command works on every page
    const area = element("textarea", "visually-hidden", text);
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    node.focus();
  }
  node.replaceChildren(icon("done"));
  setTimeout(() => node.replaceChildren(icon("copy")), 1200);
  announce("Copied");
}

// Announces a text to screen readers.
export function announce(text) {
  document.getElementById("status").textContent = text;
}

const NOTES = { stopped: "Stopped.", length: "Cut off: the context is full, or the limit of tokens is reached." };

export class View {
  constructor(chat, log, scroller) {
    this.chat = chat;
    this.log = log;
    this.scroller = scroller;
    this.items = new Map(); // the list item of each message
    this.due = new Set(); // messages to redraw in the next frame
    this.editing = null;
    chat.addEventListener("list", () => this.drawAll());
    chat.addEventListener("update", ({ detail }) => this.drawSoon(detail.message));
  }

  drawAll() {
    const follow = this.isAtEnd;
    const messages = this.chat.messages;
    for (const message of this.items.keys()) if (!messages.includes(message)) this.items.delete(message);
    this.log.replaceChildren(
      ...messages.map((message) => {
        if (!this.items.has(message)) this.items.set(message, this.create(message));
        return this.items.get(message);
      }),
    );
    for (const message of messages) this.draw(message);
    if (follow || this.chat.busy) this.scrollToEnd();
  }

  // Redraws a message once per frame, however many chunks arrive.
  drawSoon(message) {
    this.due.add(message);
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      const follow = this.isAtEnd;
      for (const due of this.due) if (this.items.has(due)) this.draw(due);
      this.due.clear();
      if (follow) this.scrollToEnd();
    });
  }

  get isAtEnd() {
    const { scrollTop, clientHeight, scrollHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < 80;
  }

  scrollToEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  create(message) {
    const isUser = message.role === "user";
    const item = element("li", `message ${isUser ? "from-user" : "from-assistant"}`);
    item.append(element("h2", "visually-hidden", isUser ? "You" : "Assistant"), element("div", "body"), element("div", "actions"));
    return item;
  }

  draw(message) {
    const item = this.items.get(message);
    if (message.role === "user") this.drawQuestion(message, item);
    else this.drawAnswer(message, item);
  }

  drawQuestion(message, item) {
    const [, body, actions] = item.children;
    if (this.editing === message) return;
    body.replaceChildren(element("p", "plain-text", message.content));
    actions.replaceChildren(
      iconButton("edit", "Edit", () => this.edit(message)),
      iconButton("copy", "Copy", (node) => copy(message.content, node)),
    );
  }

  drawAnswer(message, item) {
    const [, body, actions] = item.children;
    const isBase = this.chat.model?.chat === false;
    item.classList.toggle("pending", Boolean(message.pending));
    item.classList.toggle("waiting", Boolean(message.pending) && !message.content);
    item.setAttribute("aria-busy", String(Boolean(message.pending)));
    const children = [];
    if (message.dropped) {
      const messages = message.dropped === 1 ? "message was" : `${message.dropped} messages were`;
      children.push(element("p", "notice", `The oldest ${messages} left out: the model's context is full.`));
    }
    const text = isBase ? element("p", "plain-text", message.content) : markdown(message.content);
    children.push(element("div", "text", text), ...calls(message));
    if (NOTES[message.note] && !message.pending) children.push(element("p", "notice", NOTES[message.note]));
    if (message.error) children.push(this.errorBox(message));
    body.replaceChildren(...children);
    for (const block of body.querySelectorAll(".code")) {
      block.append(iconButton("copy", "Copy code", (node) => copy(block.querySelector("code").textContent, node)));
    }
    actions.replaceChildren();
    if (message.pending) return;
    if (message.content) actions.append(iconButton("copy", "Copy", (node) => copy(message.content, node)));
    const last = message === this.chat.messages.at(-1);
    if (last && !message.error) actions.append(iconButton("retry", "Try again", (node) => this.retry(node)));
    if (message.usage) {
      const { tokens, seconds } = message.usage;
      actions.append(element("span", "stats", `${tokens} tokens, ${Math.round(tokens / Math.max(seconds, 0.001))} tokens/s`));
    }
  }

  retry(button) {
    // The button is removed. If it had keyboard focus, the text field gets it; after a tap it must not, as that would
    // open the on-screen keyboard.
    if (button.matches(":focus-visible")) document.getElementById("message-input").focus();
    this.chat.retry();
  }

  errorBox(message) {
    const box = element("div", "error", element("p", "", message.error));
    box.setAttribute("role", "alert");
    if (message === this.chat.messages.at(-1)) {
      const retry = element("button", "outlined-button", "Try again");
      retry.type = "button";
      retry.addEventListener("click", () => this.retry(retry));
      box.append(retry);
    }
    return box;
  }

  // Replaces a question with a text field. Escape cancels.
  edit(message) {
    const item = this.items.get(message);
    const [, body, actions] = item.children;
    const area = element("textarea", "", message.content);
    area.setAttribute("aria-label", "Your message");
    const submit = element("button", "outlined-button", "Send");
    const cancel = element("button", "link-button", "Cancel");
    submit.type = "submit";
    cancel.type = "button";
    const form = element("form", "edit", area, element("div", "button-row", cancel, submit));
    const close = () => {
      this.editing = null;
      item.classList.remove("editing");
      this.draw(message);
    };
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!area.value.trim()) return;
      const index = this.chat.messages.indexOf(message);
      close();
      this.chat.edit(index, area.value.trim());
      document.getElementById("message-input").focus();
    });
    cancel.addEventListener("click", () => {
      close();
      actions.querySelector("button").focus();
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
    if (this.editing) this.items.get(this.editing)?.querySelector(".edit .link-button")?.click();
    this.editing = message;
    item.classList.add("editing");
    body.replaceChildren(form);
    actions.replaceChildren();
    fitHeight(area);
    area.addEventListener("input", () => fitHeight(area));
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  }
}

// The calls of the calculator and their results, below the answer.
function calls(message) {
  const found = [];
  for (const part of message.parts ?? []) {
    if (part.type === "python") found.push({ expression: part.text, result: "" });
    if (part.type === "python_output" && found.length) found.at(-1).result = part.text;
  }
  if (!found.length) return [];
  const list = element("ul", "calls");
  list.setAttribute("aria-label", "Calculations");
  for (const { expression, result } of found) {
    const code = element("code", "", expression);
    list.append(element("li", "", code, ...(result ? [" = ", element("code", "", result)] : [])));
  }
  return [list];
}

// Fits the height of a text area to its text. (CSS field-sizing does this, but not in all browsers yet.)
export function fitHeight(area) {
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight + area.offsetHeight - area.clientHeight}px`;
}
