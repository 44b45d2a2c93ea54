// The gateway's endpoints. The key lives in this tab's session storage and is sent as a bearer token.

const KEY = "slmdock-key";
export const KEY_NEEDED = "slmdock-key-needed";

export const getKey = () => sessionStorage.getItem(KEY) ?? "";

export function setKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function send(path, options = {}) {
  const headers = new Headers(options.headers);
  if (getKey()) headers.set("authorization", `Bearer ${getKey()}`);
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The gateway cannot be reached, or a chosen file has changed since. Is the gateway still running?", 0);
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const error = new ApiError(body?.error?.message ?? `The gateway answered ${response.status}.`, response.status);
  // A missing role is said where it was met; without any valid key nothing works.
  if (response.status === 401) window.dispatchEvent(new CustomEvent(KEY_NEEDED, { detail: error.message }));
  throw error;
}

export const getJson = async (path, signal) => (await send(path, { signal })).json();

export const postBytes = async (path, body, type = "application/octet-stream") =>
  (await send(path, { method: "POST", body, headers: { "content-type": type } })).json();

export const postForm = async (path, form) => (await send(path, { method: "POST", body: form })).json();

export const getBlob = async (path) => (await send(path)).blob();

export const sketch = async (examples, purpose) =>
  (await send(`/v1/sketch?purpose=${purpose}`, {
    method: "POST", body: examples, headers: { "content-type": "application/octet-stream" },
  })).blob();

// Yields the texts of an OpenAI stream as they arrive; ``onHead`` gets the headers, which say who answers.
export async function* streamed(path, body, signal, onHead) {
  const response = await send(path, {
    method: "POST", signal, body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    headers: { "content-type": "application/json" },
  });
  onHead(response.headers);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  while (true) {
    const { value, done } = await reader.read();
    if (done) throw new ApiError("The answer broke off.", 0);
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new ApiError(event.error.message, 0);
      const choice = event.choices?.[0];
      const text = choice?.delta?.content ?? choice?.text ?? "";
      if (text) yield text;
    }
  }
}
