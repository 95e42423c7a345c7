/* The server's answers. The token stays in this tab and is sent as a header only. */

const BASE = new URL("api/", document.baseURI);
const STORED = "redismetrics-token";
const AT_ONCE = 6; // requests to the server

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const token = {
  read: () => sessionStorage.getItem(STORED) ?? "",
  keep: (text) => sessionStorage.setItem(STORED, text),
};

export const headers = () => (token.read() ? { Authorization: `Bearer ${token.read()}` } : {});

/** Return a query string. A list repeats its key; null, undefined and "" leave it out. */
export function spellQuery(values) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(values)) {
    for (const each of Array.isArray(value) ? value : [value])
      if (each !== null && each !== undefined && each !== "") query.append(key, each);
  }
  return query;
}

export const address = (path, values = {}) => new URL(`${path}?${spellQuery(values)}`, BASE);

let running = 0;
const waiting = [];

/** Run *work* when fewer than AT_ONCE requests are open. */
async function inTurn(work, signal) {
  if (running >= AT_ONCE) await new Promise((go) => waiting.push(go));
  running++;
  try {
    signal?.throwIfAborted();
    return await work();
  } finally {
    running--;
    waiting.shift()?.();
  }
}

export const ask = (path, values, signal) => send("GET", path, values, undefined, signal);

export const post = (path, body) => send("POST", path, {}, body);

export const remove = (path) => send("DELETE", path);

function send(method, path, values = {}, body, signal) {
  return inTurn(async () => {
    let response;
    try {
      response = await fetch(address(path, values), {
        method,
        headers: { ...headers(), ...(body && { "Content-Type": "application/json" }) },
        body: body && JSON.stringify(body),
        signal,
        credentials: "omit",
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, "The server does not answer.");
    }
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return answer;
    const message = answer.message ?? answer.error ?? `The server answered ${response.status}.`;
    throw new ApiError(response.status, message);
  }, signal);
}
