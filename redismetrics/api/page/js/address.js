/* The state of the page in the address, behind the #: no server logs it. */

const SHARED = ["window", "since", "until"]; // kept from one view to another
export const WINDOWS = {
  "15m": 900,
  "1h": 3600,
  "6h": 21600,
  "24h": 86400,
  "7d": 604800,
  "30d": 2592000,
};
const STEPS = [60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400];
const FINEST = [
  [259200, 60],
  [7776000, 3600],
]; // age in seconds up to which so fine an interval is kept

/** `#/metric/response_ms?window=6h&by=endpoint&tag=shop%3Dde` as {view, name, query}. */
export function read(hash = location.hash) {
  const [path, search = ""] = hash.replace(/^#\/?/, "").split("?");
  const [view = "", ...rest] = path.split("/");
  return {
    view: view || "overview",
    name: decode(rest.join("/")),
    query: new URLSearchParams(search),
  };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function href(view, name = "", query = new URLSearchParams()) {
  const kept = new URLSearchParams(query);
  const now = read().query;
  for (const key of SHARED)
    if (!kept.has(key) && now.has(key) && !(kept.has("window") || kept.has("since")))
      kept.append(key, now.get(key));
  return spellHash(view, name, kept);
}

function spellHash(view, name, query) {
  const path = `${view === "overview" ? "" : view}${name && `/${encodeURIComponent(name)}`}`;
  return `#/${path}${query.size ? `?${query}` : ""}`;
}

/** Change parts of the query: null removes a key, a list repeats it.
 *
 * Typing *replaces* history. `zoomOut` goes back to where the query was before it *zooms*.
 */
export function change(values, { replace = false, zooms = false } = {}) {
  const { view, name, query } = read();
  for (const [key, value] of Object.entries(values)) {
    query.delete(key);
    for (const each of Array.isArray(value) ? value : [value])
      if (each !== null && each !== "") query.append(key, each);
  }
  const next = spellHash(view, name, query);
  if (next === location.hash) return;
  const state = zooms ? { zooms } : replace ? history.state : null;
  history[replace ? "replaceState" : "pushState"](state, "", next);
  dispatchEvent(new Event("addresschange"));
}

/** Show what was shown before a part of it was chosen on the chart; else, remove these *keys*. */
export function zoomOut(...keys) {
  if (history.state?.zooms) history.back();
  else change(Object.fromEntries(keys.map((key) => [key, null])));
}

/** Return the window of a query at *now*, with an interval that yields about *points* intervals.
 *
 * It begins and ends at interval boundaries, and may end after *now*. No interval is shorter than a
 * minute, or than the finest data still kept for the window.
 */
export function windowOf(query, now, points = 240) {
  const since = Number(query.get("since")),
    until = Number(query.get("until"));
  const fixed = since > 0 && until > since;
  const text = WINDOWS[query.get("window")] ? query.get("window") : "1h";
  const step = interval(fixed ? since : now - WINDOWS[text], fixed ? until : now, now, points);
  const last = (fixed ? Math.ceil(until / step) : Math.ceil(now / step)) * step;
  return {
    since: fixed ? Math.floor(since / step) * step : last - WINDOWS[text],
    until: last,
    step,
    text: fixed ? "" : text,
    fixed,
  };
}

function interval(since, until, now, points) {
  const kept = (FINEST.find(([age]) => now - since <= age * 1.001) ?? [0, 86400])[1];
  const wanted = Math.max((until - since) / points, kept);
  return STEPS.find((step) => step >= wanted) ?? 86400;
}

/** `10s`, `5m`, `1h`, as the API accepts it. */
export const spell = (step) =>
  step % 86400 === 0
    ? `${step / 86400}d`
    : step % 3600 === 0
      ? `${step / 3600}h`
      : step % 60 === 0
        ? `${step / 60}m`
        : `${step}s`;

/** Return the filters of a query: `tag=shop=de`, and `tag=!shop` for series without the tag. */
export const filters = (query) =>
  query.getAll("tag").map((text) => {
    const [key, ...rest] = text.split("=");
    return text.startsWith("!") && !rest.length
      ? { text, key: text.slice(1), value: null }
      : { text, key, value: rest.join("=") };
  });
