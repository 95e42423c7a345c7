/* Sparklines: bars for counters, a line for gauges, a band for distributions. */

import { h } from "../dom.js";
import { kindOf } from "../kinds.js";

const WIDTH = 120,
  HEIGHT = 32;

/** *trend* has values or null; *low* is the lower edge of a histogram's band.
 *
 * *range*, `[low, high]`, is a shared scale.
 */
export function spark({ type, trend, low, range }, label) {
  const known = trend.filter((value) => value !== null);
  const attributes = {
    class: `spark ${kindOf(type).color}`,
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": label,
  };
  if (!known.length)
    return h("svg", attributes, h("path", { class: "nothing", d: `M0 ${HEIGHT - 1}H${WIDTH}` }));
  const least = Math.min(...known, ...(low ?? []).filter((value) => value !== null));
  const most = range?.[1] ?? Math.max(...known);
  const floor = range?.[0] ?? floorOf(type, least, most);
  const x = (at) => round((at / Math.max(trend.length - 1, 1)) * WIDTH);
  const y = (value) => round(HEIGHT - 2 - ((value - floor) / (most - floor || 1)) * (HEIGHT - 4));
  if (type === "counter")
    return h("svg", attributes, h("path", { class: "bars", d: bars(trend, y) }));
  const upper = runs(trend, x, y);
  const areas = runs(trend, x, y, (at) => (low ? y(low[at] ?? floor) : HEIGHT))
    .map((each) => each + "Z")
    .join("");
  return h(
    "svg",
    attributes,
    h("path", { class: "wash", d: areas }),
    h("path", { class: "line", d: upper.join("") }),
  );
}

const floorOf = (type, least, most) =>
  type === "counter" || least < most * 0.5 ? Math.min(0, least) : least - (most - least) * 0.15;

const round = (value) => Math.round(value * 10) / 10;

function bars(trend, y) {
  const slot = WIDTH / trend.length,
    width = round(Math.max(slot * 0.72, 0.8));
  const heightOf = (value) => round(Math.min(y(value) - HEIGHT, -1));
  return trend
    .map((value, at) =>
      value ? `M${round(at * slot)} ${HEIGHT}v${heightOf(value)}h${width}V${HEIGHT}Z` : "",
    )
    .join("");
}

/** Paths through the values, one per stretch between gaps; with *under*, back along it. */
function runs(trend, x, y, under) {
  const found = [];
  for (let at = 0; at < trend.length; at++) {
    if (trend[at] === null) continue;
    const from = at;
    let path = "";
    for (; at < trend.length && trend[at] !== null; at++)
      path += `${path ? "L" : "M"}${x(at)} ${y(trend[at])}`;
    if (at - from === 1) path += `h1`;
    if (under) for (let back = at - 1; back >= from; back--) path += `L${x(back)} ${under(back)}`;
    found.push(path);
  }
  return found;
}
