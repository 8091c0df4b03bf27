// HTTP client of the server's API, with streaming.

import { read } from "./store.js";

export class ServerUnreachable extends Error {}

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

function headers() {
  const key = read("key", "", sessionStorage);
  // fetch throws for other characters in a header. No valid key has them, so without it the server asks again
  const isValid = /^[ -~]+$/.test(key);
  return { "Content-Type": "application/json", ...(isValid && { Authorization: `Bearer ${key}` }) };
}

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: headers(), credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerUnreachable("The server is not reachable.");
  }
  if (response.ok) return response;
  let message = `The server responded with status ${response.status}.`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // the response is not from our server, such as a proxy's error page
  }
  throw new ApiError(response.status, message);
}

export async function fetchModel() {
  return (await (await request("/v1/models")).json()).data[0];
}

export async function isReachable() {
  try {
    await fetch("/health", { cache: "no-store" });
    return true;
  } catch {
    return false;
  }
}

// Yields the chunks of a streamed response. Throws if the stream ends without its final [DONE].
export async function* stream(path, body, signal) {
  const options = { stream: true, stream_options: { include_usage: true } };
  const response = await request(path, { method: "POST", body: JSON.stringify({ ...body, ...options }), signal });
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    let result;
    try {
      result = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServerUnreachable("The connection was lost during the answer.");
    }
    if (result.done) throw new ServerUnreachable("The connection was lost during the answer.");
    text += decoder.decode(result.value, { stream: true });
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: ?/, "");
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(503, chunk.error.message);
      yield chunk;
    }
  }
}
