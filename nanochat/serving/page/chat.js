// The conversation: its messages, and requests for answers. Independent of the display; changes are sent as events.

import { ApiError, ServerUnreachable, stream } from "./api.js";
import { readMessages, writeMessages } from "./store.js";

const SAVE_INTERVAL = 400; // milliseconds, while an answer is streamed
// Only the end of a long conversation is sent: the server limits the body, and no model here has a longer context.
const MAX_SENT_MESSAGES = 500;
const MAX_SENT_CHARACTERS = 200_000;

export class Chat extends EventTarget {
  constructor() {
    super();
    this.messages = readMessages("messages");
    this.model = null; // the model's description from /v1/models
    this.sampling = {}; // the sampling options of a request
    this.system = "";
    this.running = null; // the AbortController of the running request
    this.unsent = 0; // messages at the beginning that were not sent
    this.savedAt = 0;
  }

  get busy() {
    return this.running !== null;
  }

  emit(kind, detail = {}) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }

  save() {
    this.savedAt = Date.now();
    writeMessages("messages", this.messages);
  }

  // Starts a new conversation. The old one can be restored once.
  startNew() {
    this.stop();
    if (this.messages.length) writeMessages("previous", this.messages);
    this.messages = [];
    this.save();
    this.emit("list");
  }

  get hasPrevious() {
    return readMessages("previous").length > 0;
  }

  restore() {
    this.messages = readMessages("previous");
    writeMessages("previous", []);
    this.save();
    this.emit("list");
  }

  send(text) {
    this.messages.push({ role: "user", content: text });
    return this.answer();
  }

  // Requests another answer to the last question.
  retry() {
    this.stop();
    while (this.messages.length && this.messages.at(-1).role === "assistant") this.messages.pop();
    this.emit("list");
    return this.answer();
  }

  // Replaces a question, and removes the messages after it.
  edit(index, text) {
    this.stop();
    this.messages.splice(index);
    this.emit("list");
    return this.send(text);
  }

  stop() {
    this.running?.abort();
  }

  async answer() {
    const body = this.requestBody();
    const message = { role: "assistant", content: "", pending: true, unsent: this.unsent };
    this.messages.push(message);
    const running = new AbortController();
    this.running = running;
    this.save();
    this.emit("list");
    this.emit("busy");
    const path = this.model?.chat === false ? "/v1/completions" : "/v1/chat/completions";
    const start = performance.now();
    try {
      for await (const chunk of stream(path, body, running.signal)) this.addChunk(message, chunk, start);
    } catch (error) {
      if (error.name === "AbortError") {
        message.note = "stopped";
      } else {
        const isExpected = error instanceof ServerUnreachable || error instanceof ApiError;
        message.error = isExpected ? error.message : "Internal error of this page: see the browser's console.";
        message.status = error.status ?? 0;
        if (!isExpected) console.error(error);
        if (error instanceof ServerUnreachable) this.emit("unreachable");
      }
    }
    message.pending = false;
    if (this.running === running) this.running = null;
    this.save();
    this.emit("update", { message, done: true });
    this.emit("busy");
  }

  addChunk(message, chunk, start) {
    if (chunk.dropped_messages) message.dropped = chunk.dropped_messages + message.unsent;
    if (chunk.usage) {
      const seconds = (performance.now() - start) / 1000;
      message.usage = { tokens: chunk.usage.completion_tokens, seconds };
    }
    for (const choice of chunk.choices) {
      const text = choice.text ?? choice.delta?.content ?? "";
      const part = choice.delta?.part ?? (text && { type: "text", text });
      if (part) addPart(message, part);
      if (choice.finish_reason === "length") message.note = "length";
    }
    if (Date.now() - this.savedAt > SAVE_INTERVAL) this.save();
    this.emit("update", { message });
  }

  // The body of a request: the roles and contents of the conversation, without empty answers.
  requestBody() {
    const body = { ...this.sampling };
    if (this.model?.chat === false) return { ...body, prompt: this.messages.at(-1).content };
    const complete = this.messages.filter((m) => m.role === "user" || m.content || m.parts);
    const sent = truncate(complete);
    this.unsent = complete.length - sent.length;
    const messages = sent.map((m) => ({ role: m.role, content: m.parts?.length ? m.parts : m.content }));
    if (this.system.trim()) messages.unshift({ role: "system", content: this.system.trim() });
    return { ...body, messages };
  }
}

// The last messages within the limits, from a question on.
function truncate(messages) {
  let begin = messages.length;
  let characters = 0;
  while (begin > 0 && messages.length - begin < MAX_SENT_MESSAGES && characters < MAX_SENT_CHARACTERS) {
    begin -= 1;
    characters += messages[begin].content.length;
  }
  while (messages[begin].role !== "user") begin += 1;
  return messages.slice(begin);
}

// Adds streamed text to a message. Only a message with calls of the calculator has parts, in their order.
function addPart(message, part) {
  if (part.type === "text") message.content += part.text;
  if (part.type !== "text" && !message.parts) {
    message.parts = message.content ? [{ type: "text", text: message.content }] : [];
  }
  if (!message.parts) return;
  const last = message.parts.at(-1);
  if (last?.type === part.type) last.text += part.text;
  else message.parts.push({ ...part });
}
