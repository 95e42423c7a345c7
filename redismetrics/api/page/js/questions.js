/* What the views ask, in terms of the JSON API: answers as columns, one list of values a group. */

import { ask } from "./api.js";

const GROUPS = 50; // groups of a chart
const VALUES = 12; // values of one tag that are shown
export const MOST_MARKS = 100; // newest marks of a window

export const names = async (signal) => (await ask("names", {}, signal)).metrics;

const common = ({ name, since, until, tags = [] }) => ({ name, since, until, tag: tags });

/** Return `{times, interval, groups: [{tags, values: {aggregation: […]}}], left}`.
 *
 * At most *top* groups, with the largest *order* first; *left* is the number of other groups.
 */
export async function series({ step, by, aggregations, order, top = GROUPS, ...query }, signal) {
  const { left_off: left, ...answer } = await ask(
    "time_series",
    {
      ...common(query),
      ...columns(by, aggregations, order, top),
      interval: `${step}s`,
      fill: true,
    },
    signal,
  );
  return { ...answer, left };
}

const columns = (by, aggregations, order, top) => ({
  group_by: by,
  aggregation: aggregations,
  order: order ?? aggregations[0],
  top,
  shape: "columns",
});

/** Return `{groups: [{tags, values}], left}` of the whole window: a mean of p95s is not a p95.
 *
 * With the same *order* and *top* as `series` they are the same groups.
 */
export async function figures({ by, aggregations, order, top = GROUPS, ...query }, signal) {
  const asked = { ...common(query), ...columns(by, aggregations, order, top) };
  const { groups, left_off: left } = await ask("rollup", asked, signal);
  return { groups, left };
}

/** Return `{times, interval, edges, counts}`: samples by interval and bucket of values. */
export const heat = ({ step, ...query }, signal) =>
  ask("heat", { ...common(query), interval: `${step}s` }, signal);

/** Return the newest marks of a window, such as deploys: `[{time, text, tags}]`. */
export async function marks({ since, until }, signal) {
  const found = await ask("marks", { since, until, limit: MOST_MARKS }, signal);
  return found.marks.map((mark) => ({ ...mark, time: Date.parse(mark.timestamp) / 1000 }));
}

/** Return `[{key, count, values: [{value, share}]}]`: the distribution of samples over each tag. */
export const tags = async (query, signal) =>
  (await ask("tags", { ...common(query), limit: VALUES }, signal)).tags;

/** Return the keys of the tags that a metric has in a window. */
export const keysOf = async (query, signal) => (await tags(query, signal)).map(({ key }) => key);

/** Return information about the server: `{now, writable, promql, …}`. */
export const info = (signal) => ask("info", {}, signal);

/** Return figures of each metric for a window; see `/api/overview`. */
export function overview({ step, ...asked }, signal) {
  return ask("overview", { ...asked, interval: `${step}s` }, signal);
}

export const stats = async (signal) => (await ask("stats", {}, signal)).storage;

export const doctor = async (signal) => (await ask("doctor", {}, signal)).findings;

export const cardinality = async (limit, signal) =>
  (await ask("cardinality", { limit }, signal)).metrics;
