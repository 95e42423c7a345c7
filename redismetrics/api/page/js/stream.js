/* Server-sent events by fetch: EventSource cannot send a token. */

import { ApiError, address, headers } from "./api.js";

const SILENCE = 40_000; // ms without even a comment, after which the connection is dead
const LONGEST = 30_000; // ms between two attempts

/** Call *onEvent* with `{kind, data}` until *signal* is aborted.
 *
 * Reconnects when the connection ends, after the last event received. The kinds `open` and
 * `cut` report the state of the connection. While the page is hidden, there is no connection.
 */
export async function stream({ name, every, by, tags = [] }, onEvent, signal) {
  let failures = 0;
  let last = "";
  while (!signal.aborted) {
    await untilVisible(signal);
    const quiet = new AbortController();
    let isLeft = false;
    const leave = () => {
      isLeft ||= document.hidden;
      if (isLeft) quiet.abort();
    };
    document.addEventListener("visibilitychange", leave);
    try {
      const resume = last && !every ? { "Last-Event-ID": last } : {};
      const response = await fetch(address("stream", { name, every, by, tag: tags }), {
        headers: { ...headers(), ...resume, Accept: "text/event-stream" },
        signal: AbortSignal.any([signal, quiet.signal]),
        cache: "no-store",
        credentials: "omit",
      });
      if (!response.ok) {
        const { message } = await response.json().catch(() => ({}));
        throw new ApiError(response.status, message ?? `The server answered ${response.status}.`);
      }
      onEvent({ kind: "open" });
      failures = 0;
      await readEvents(response.body, quiet, (event) => {
        last = event.id || last;
        if (event.data !== null) onEvent(event);
      });
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 401 || error.status === 400) throw error;
    } finally {
      document.removeEventListener("visibilitychange", leave);
    }
    if (signal.aborted) return;
    if (isLeft) continue;
    onEvent({ kind: "cut" });
    await pause(Math.min(LONGEST, 500 * 2 ** failures) * (0.5 + Math.random()), signal);
    failures++;
  }
}

const pause = (ms, signal) =>
  new Promise((done) => {
    const end = () => {
      clearTimeout(timer);
      // The signal lives as long as the view, across any number of attempts.
      signal.removeEventListener("abort", end);
      done();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
  });

/** Return when the page is visible, or *signal* is aborted. */
async function untilVisible(signal) {
  while (document.hidden && !signal.aborted)
    await new Promise((done) => {
      const end = () => {
        document.removeEventListener("visibilitychange", end);
        signal.removeEventListener("abort", end);
        done();
      };
      document.addEventListener("visibilitychange", end);
      signal.addEventListener("abort", end);
    });
}

async function readEvents(body, quiet, onEvent) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let timer;
  try {
    for (;;) {
      clearTimeout(timer);
      timer = setTimeout(() => quiet.abort(), SILENCE);
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      parts.forEach((part) => onEvent(parseEvent(part)));
    }
  } finally {
    clearTimeout(timer);
  }
}

/** Return one event's text as {kind, data, id}; the data of a comment or a bare id is null. */
function parseEvent(text) {
  const event = { kind: "message", data: null, id: "" };
  for (const line of text.split("\n")) {
    if (line.startsWith("event: ")) event.kind = line.slice(7);
    else if (line.startsWith("data: ")) event.data = JSON.parse(line.slice(6));
    else if (line.startsWith("id: ")) event.id = line.slice(4);
  }
  return event;
}
