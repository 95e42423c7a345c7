/* The server's answers. The token stays in this tab and is sent as a header only. */

const BASE = new URL("api/", document.baseURI);
const STORED = "redismetrics-token";
const AT_ONCE = 6; // requests to the server
const LONGEST = 180_000; // ms that an answer may take: longer than any that the server works on

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

/** Return a query string. A list repeats its key; null, undefined and "" are left out. */
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
    // A connection may hang forever, and would keep its slot.
    const inTime = AbortSignal.timeout(LONGEST);
    let response, text;
    try {
      response = await fetch(address(path, values), {
        method,
        headers: { ...headers(), ...(body && { "Content-Type": "application/json" }) },
        body: body && JSON.stringify(body),
        signal: signal ? AbortSignal.any([signal, inTime]) : inTime,
        credentials: "omit",
      });
      text = await response.text();
    } catch {
      if (signal?.aborted) throw signal.reason;
      throw new ApiError(0, "The server does not answer.");
    }
    const answer = parse(text);
    if (response.ok && answer) return answer;
    const reason = response.ok
      ? "The answer cannot be read; is this the server's address?"
      : `The server answered ${response.status}.`;
    throw new ApiError(response.status, answer?.message ?? answer?.error ?? reason);
  }, signal);
}

/** Parse a JSON text; return null if it is not JSON, such as an error page of a proxy. */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
