// What stays when the page is reloaded: in this browser, and nowhere else. Two tabs have a conversation each; one that
// is opened anew goes on with what was last said in any of them.

const PREFIX = "nanochat.";

export function read(name, otherwise, storage = localStorage) {
  try {
    const text = storage.getItem(PREFIX + name);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise; // not JSON, or storage is forbidden
  }
}

export function write(name, value, storage = localStorage) {
  try {
    if (value === null || value === undefined) storage.removeItem(PREFIX + name);
    else storage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // full or forbidden: the conversation goes on, it is only not kept
  }
}

export function keepMessages(name, messages) {
  write(name, messages, sessionStorage);
  write(name, messages.length ? messages : null);
}

const isText = (value) => typeof value === "string";

// The conversation as it was kept; whatever is not one any more is left out.
export function readMessages(name) {
  const kept = read(name, null, sessionStorage) ?? read(name, []);
  if (!Array.isArray(kept)) return [];
  const good = (m) => m && (m.role === "user" || m.role === "assistant") && isText(m.content);
  return kept.filter(good).map((m) => ({
    ...m,
    ...(m.pending && { pending: false, note: "stopped" }), // the page was left while the answer came
    parts: Array.isArray(m.parts) ? m.parts.filter((part) => part && isText(part.type) && isText(part.text)) : undefined,
  }));
}
