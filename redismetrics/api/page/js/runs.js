/* Runs: what is asked of the API, and the chart that it becomes. */

import { ask } from "./api.js";
import { plural, whole } from "./format.js";
import { elapsedAxis, numberAxis, timeAxis } from "./chart/axes.js";
import { paint } from "./chart/colors.js";
import { labelOf, unitOf } from "./parts/model.js";

const PLACES = 400; // of the pointer along the x axis
const SAMPLES = 100; // newest samples whose metadata is read
export const METADATA = "metadata.";

/** The request to `/api/runs`: whole runs, unless they are shown at their place in the window. */
export const question = (x) => ({ x, whole: x === "time" ? null : "true" });

/** Return the runs of a metric: `{runs: [{tags, last, min, max, …, x, y}], left_off}`. */
export const runsOf = ({ name, since, until, tags, by, x }, signal) =>
  ask(
    "runs",
    { name, since, until, tag: tags, group_by: by, ...question(x), points: 600 },
    signal,
  );

/** Return keys of the newest samples: of numbers in their metadata, and of tags. */
export async function keysOf(name, signal) {
  const { metrics } = await ask("metrics", { name, limit: SAMPLES }, signal);
  const numbers = metrics.flatMap(({ metadata }) =>
    Object.keys(metadata).filter((key) => typeof metadata[key] === "number"),
  );
  const tags = metrics.flatMap((sample) => Object.keys(sample.tags));
  return { numbers: [...new Set(numbers)].sort(), tags: [...new Set(tags)].sort() };
}

/** Return the runs in order of their names, each with its colour in the chart. */
export function painted({ runs }) {
  const named = runs.map((run) => ({ ...run, label: labelOf(run.tags, "All series") }));
  named.sort((a, b) => a.label.localeCompare(b.label, undefined, { numeric: true }));
  return named.map((run, place) => ({ ...run, ...paint(place) }));
}

/** Return the chart of runs; *shown* is the part of the x axis, [from, to], or null. */
export function modelOf(metric, runs, x, zone, shown) {
  const drawn = runs.filter((run) => run.x.length);
  let [since, until] = shown ?? [
    Math.min(...drawn.map((run) => run.x[0])),
    Math.max(...drawn.map((run) => run.x.at(-1))),
  ];
  if (!drawn.length) [since, until] = [0, 1];
  if (since === until) [since, until] = [since - 1, until + 1];
  const step = (until - since) / (PLACES - 1);
  const axis = axisOf(x, zone);
  const times = Array.from({ length: PLACES }, (_, place) => since + place * step);
  const series = drawn.map((run) => curve(run, since, until, times));
  const text = (at) => axis.text(nearest(series, Math.round((at - since) / step), at));
  const unit = unitOf(metric, "last");
  return { times, since, until, step, zone, unit, kind: "line", axis: { ...axis, text }, series };
}

/** Return the x of the sample nearest to the pointer at *place*, or *at* without one. */
function nearest(series, place, at) {
  const found = series.filter(({ near }) => near[place] >= 0).map(({ xs, near }) => xs[near[place]]);
  found.sort((a, b) => Math.abs(a - at) - Math.abs(b - at));
  return found[0] ?? at;
}

/** Describe in words what the chart shows and leaves out. */
export function tell({ runs, left_off: left }, x, shown) {
  const parts = [plural(runs.length, "run")];
  if (left) parts[0] += ` of ${whole(runs.length + left)}, the most recent; filter to see others`;
  if (x !== "time") parts.push("runs in this window, from their beginning");
  const without = runs.filter((run) => !run.x.length).length;
  if (without) parts.push(`${plural(without, "run")} without ${x.slice(METADATA.length)}`);
  if (shown) parts.push("part of the x axis; double-click to go back");
  return parts.join(" · ");
}

function axisOf(x, zone) {
  if (x === "time") return timeAxis(zone);
  return x === "elapsed" ? elapsedAxis : numberAxis(x.slice(METADATA.length));
}

/** A series of the chart: its samples within the x axis, and the nearest ones for the pointer. */
function curve({ label, color, dash, tags, x, y }, since, until, times) {
  const from = Math.max(0, x.findIndex((each) => each >= since) - 1);
  const past = x.findIndex((each) => each > until);
  const end = past < 0 ? x.length : past + 1;
  const xs = Float64Array.from(x.slice(from, end)),
    ys = Float64Array.from(y.slice(from, end), (value) => value ?? NaN);
  const half = (until - since) / times.length / 2;
  let at = 0;
  const near = times.map((place) => {
    while (at + 1 < xs.length && Math.abs(xs[at + 1] - place) <= Math.abs(xs[at] - place)) at++;
    return place < xs[0] - half || place > xs[xs.length - 1] + half ? -1 : at;
  });
  const values = Float64Array.from(near, (place) => ys[place] ?? NaN);
  return { label, color, dash, tags, xs, ys, near, values };
}
