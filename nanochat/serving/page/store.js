// Storage in this browser, which survives a reload. Each tab has its own conversation, in sessionStorage; a new tab
// starts with the latest one of all tabs, in localStorage.

const PREFIX = "nanochat.";

export function read(name, fallback, storage = localStorage) {
  try {
    const text = storage.getItem(PREFIX + name);
    return text === null ? fallback : JSON.parse(text);
  } catch {
    return fallback; // not JSON, or storage is disabled
  }
}

export function write(name, value, storage = localStorage) {
  try {
    if (value === null || value === undefined) storage.removeItem(PREFIX + name);
    else storage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // storage is full or disabled: the page works without it
  }
}

export function writeMessages(name, messages) {
  write(name, messages, sessionStorage);
  write(name, messages.length ? messages : null);
}

const isText = (value) => typeof value === "string";

// The stored conversation, without invalid messages.
export function readMessages(name) {
  const stored = read(name, null, sessionStorage) ?? read(name, []);
  if (!Array.isArray(stored)) return [];
  const isValid = (m) => m && (m.role === "user" || m.role === "assistant") && isText(m.content);
  return stored.filter(isValid).map((m) => ({
    ...m,
    ...(m.pending && { pending: false, note: "stopped" }), // the page was closed during the answer
    parts: Array.isArray(m.parts) ? m.parts.filter((part) => part && isText(part.type) && isText(part.text)) : undefined,
  }));
}
