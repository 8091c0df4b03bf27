// The conversation: what was said, and asking for what comes next. Knows nothing of how it looks.

import { Refused, ServerGone, stream } from "./api.js";
import { keepMessages, readMessages } from "./store.js";

const KEEP_EVERY = 400; // milliseconds between two savings while an answer is coming
// Of a conversation that has become long only the end is sent: the server takes so much, and no model here reads more.
const MOST_SENT = 500; // messages
const MOST_CHARACTERS = 200_000;

export class Chat extends EventTarget {
  constructor() {
    super();
    this.messages = readMessages("messages");
    this.model = null; // what the server says of its model
    this.sampling = {}; // what is sent along
    this.system = "";
    this.running = null; // aborts the answer that is coming
    this.unsent = 0; // messages that were too long ago to be sent
    this.keptAt = 0;
  }

  get busy() {
    return this.running !== null;
  }

  changed(kind, detail = {}) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }

  keep() {
    this.keptAt = Date.now();
    keepMessages("messages", this.messages);
  }

  // Leaves the conversation, which can be fetched back once.
  begin() {
    this.stop();
    if (this.messages.length) keepMessages("previous", this.messages);
    this.messages = [];
    this.keep();
    this.changed("list");
  }

  get hasPrevious() {
    return readMessages("previous").length > 0;
  }

  restore() {
    this.messages = readMessages("previous");
    keepMessages("previous", []);
    this.keep();
    this.changed("list");
  }

  send(text) {
    this.messages.push({ role: "user", content: text });
    return this.answer();
  }

  // Another answer to the last question.
  retry() {
    this.stop();
    while (this.messages.length && this.messages.at(-1).role === "assistant") this.messages.pop();
    this.changed("list");
    return this.answer();
  }

  // Asks something else instead; what came after it is gone.
  edit(number, text) {
    this.stop();
    this.messages.splice(number);
    this.changed("list");
    return this.send(text);
  }

  stop() {
    this.running?.abort();
  }

  async answer() {
    const body = this.request();
    const message = { role: "assistant", content: "", pending: true, unsent: this.unsent };
    this.messages.push(message);
    const running = new AbortController();
    this.running = running;
    this.keep();
    this.changed("list");
    this.changed("busy");
    const path = this.model?.chat === false ? "/v1/completions" : "/v1/chat/completions";
    const begun = performance.now();
    try {
      for await (const chunk of stream(path, body, running.signal)) this.take(message, chunk, begun);
    } catch (error) {
      if (error.name === "AbortError") {
        message.note = "stopped";
      } else {
        message.error = error instanceof ServerGone || error instanceof Refused ? error.message : "This page made a mistake.";
        message.status = error.status ?? 0;
        if (!(error instanceof ServerGone || error instanceof Refused)) console.error(error);
        if (error instanceof ServerGone) this.changed("gone");
      }
    }
    message.pending = false;
    if (this.running === running) this.running = null;
    this.keep();
    this.changed("update", { message, done: true });
    this.changed("busy");
  }

  take(message, chunk, begun) {
    if (chunk.dropped_messages) message.dropped = chunk.dropped_messages + message.unsent;
    if (chunk.usage) {
      const seconds = (performance.now() - begun) / 1000;
      message.usage = { tokens: chunk.usage.completion_tokens, seconds };
    }
    for (const choice of chunk.choices) {
      const text = choice.text ?? choice.delta?.content ?? "";
      const part = choice.delta?.part ?? (text && { type: "text", text });
      if (part) add(message, part);
      if (choice.finish_reason === "length") message.note = "length";
    }
    if (Date.now() - this.keptAt > KEEP_EVERY) this.keep();
    this.changed("update", { message });
  }

  // What is sent: the conversation without what is only for the eye, and without answers that never came.
  request() {
    const body = { ...this.sampling };
    if (this.model?.chat === false) return { ...body, prompt: this.messages.at(-1).content };
    const said = this.messages.filter((m) => m.role === "user" || m.content || m.parts);
    const sent = end(said);
    this.unsent = said.length - sent.length;
    const messages = sent.map((m) => ({ role: m.role, content: m.parts?.length ? m.parts : m.content }));
    if (this.system.trim()) messages.unshift({ role: "system", content: this.system.trim() });
    return { ...body, messages };
  }
}

// The last messages, from a question on.
function end(messages) {
  let begin = messages.length;
  let characters = 0;
  while (begin > 0 && messages.length - begin < MOST_SENT && characters < MOST_CHARACTERS) {
    begin -= 1;
    characters += messages[begin].content.length;
  }
  while (messages[begin].role !== "user") begin += 1;
  return messages.slice(begin);
}

// With the calculator's calls among them, the parts of an answer are kept in their order; else its text is enough.
function add(message, part) {
  if (part.type === "text") message.content += part.text;
  if (part.type !== "text" && !message.parts) {
    message.parts = message.content ? [{ type: "text", text: message.content }] : [];
  }
  if (!message.parts) return;
  const last = message.parts.at(-1);
  if (last?.type === part.type) last.text += part.text;
  else message.parts.push({ ...part });
}
