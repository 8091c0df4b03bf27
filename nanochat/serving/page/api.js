// Asks the server, and reads what it streams.

import { read } from "./store.js";

export class ServerGone extends Error {}

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

function headers() {
  const key = read("key", "", sessionStorage);
  // no header takes other signs, and no server here has a key with them: it will ask again
  const fits = /^[ -~]+$/.test(key);
  return { "Content-Type": "application/json", ...(fits && { Authorization: `Bearer ${key}` }) };
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: headers(), credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerGone("The server does not answer.");
  }
  if (response.ok) return response;
  let message = `The server answered ${response.status}.`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // not our server's words: the number has to do
  }
  throw new Refused(response.status, message);
}

export async function fetchModel() {
  return (await (await ask("/v1/models")).json()).data[0];
}

export async function isThere() {
  try {
    await fetch("/health", { cache: "no-store" });
    return true;
  } catch {
    return false;
  }
}

// The chunks of an answer as they come. Ends with an error if the stream ends before it says that it is done.
export async function* stream(path, body, signal) {
  const options = { stream: true, stream_options: { include_usage: true } };
  const response = await ask(path, { method: "POST", body: JSON.stringify({ ...body, ...options }), signal });
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    let piece;
    try {
      piece = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServerGone("The connection was lost before the answer ended.");
    }
    if (piece.done) throw new ServerGone("The connection was lost before the answer ended.");
    text += decoder.decode(piece.value, { stream: true });
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: ?/, "");
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Refused(503, chunk.error.message);
      yield chunk;
    }
  }
}
