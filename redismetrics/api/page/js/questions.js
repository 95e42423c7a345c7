/* What the views ask, in terms of the JSON API: answers as columns, one list of values a group. */

import { ask } from "./api.js";

const GROUPS = 50; // groups of a chart
const VALUES = 12; // values of one tag that are shown
const SAMPLES = 100; // newest samples whose tags are read

export const names = async (signal) => (await ask("names", {}, signal)).metrics;

const common = ({ name, since, until, tags = [] }) => ({ name, since, until, tag: tags });

/** Return `{times, interval, groups: [{tags, values: {aggregation: […]}}], left}`.
 *
 * At most 50 groups, those with the largest values first; *left* is the number of the others.
 */
export async function series({ step, by = [], aggregations, ...query }, signal) {
  const values = { interval: `${step}s`, group_by: by, aggregation: aggregations, fill: true };
  const { series: rows } = await ask("time_series", { ...common(query), ...values }, signal);
  const count = Math.max(0, Math.ceil((query.until - query.since) / step));
  const times = Array.from({ length: count }, (_, at) => query.since + at * step);
  const groups = new Map();
  for (const row of rows) {
    const tags = tagsOf(row, by);
    const key = JSON.stringify(tags);
    if (!groups.has(key)) {
      const columns = aggregations.map((each) => [each, Array(count).fill(null)]);
      groups.set(key, { tags, size: 0, values: Object.fromEntries(columns) });
    }
    const group = groups.get(key);
    const at = Math.round((Date.parse(row.timestamp) / 1000 - query.since) / step);
    for (const each of aggregations) if (at in times) group.values[each][at] = row[each] ?? null;
    group.size += Math.abs(row[aggregations[0]] ?? 0);
  }
  const largest = [...groups.values()].sort((a, b) => b.size - a.size);
  const left = Math.max(0, largest.length - GROUPS);
  return { times, interval: step, groups: largest.slice(0, GROUPS), left };
}

const tagsOf = (row, by) => Object.fromEntries(by.map((key) => [key, row[key] ?? null]));

/** Return `{groups: [{tags, values}]}` of the whole window: the mean of many p95s is no p95. */
export async function figures({ by = [], aggregations, ...query }, signal) {
  const groups = new Map();
  const answers = await Promise.all(
    aggregations.map((aggregation) =>
      ask("query", { ...common(query), aggregation, group_by: by }, signal),
    ),
  );
  for (const [place, { results }] of answers.entries()) {
    const aggregation = aggregations[place];
    for (const row of Array.isArray(results) ? results : [{ [aggregation]: results }]) {
      const tags = tagsOf(row, by);
      const key = JSON.stringify(tags);
      if (!groups.has(key)) groups.set(key, { tags, values: {} });
      groups.get(key).values[aggregation] = row[aggregation] ?? null;
    }
  }
  return { groups: [...groups.values()] };
}

/** Return the tags of a metric: the keys of its newest samples, and of its series in PromQL. */
export async function keysOf(name, signal) {
  const newest = ask("metrics", { name, limit: SAMPLES }, signal);
  const pattern = name.replace(/[^A-Za-z0-9_]/g, ".");
  const labels = ask(
    "v1/labels",
    { "match[]": `{__name__=~"${pattern}(_total|_count|_sum|_bucket)?"}` },
    signal,
  ).catch(() => ({ data: [] }));
  const found = new Set((await newest).metrics.flatMap(({ tags }) => Object.keys(tags)));
  const spelled = new Set([...found].map((key) => key.replace(/[^A-Za-z0-9_]/g, "_")));
  for (const label of (await labels).data)
    if (!["__name__", "le", "quantile"].includes(label) && !spelled.has(label)) found.add(label);
  return [...found].sort();
}

/** Return `[{key, count, values: [{value, share}]}]`: how the samples are spread over each tag. */
export async function tags({ keys, ...query }, signal) {
  const all = await Promise.all(
    keys.map(async (key) => {
      const asked = { ...query, by: [key], aggregations: ["count"] };
      const { groups } = await figures(asked, signal);
      const total = groups.reduce((sum, { values }) => sum + values.count, 0) || 1;
      const values = groups
        .map((group) => ({ value: group.tags[key], share: group.values.count / total }))
        .sort((a, b) => b.share - a.share);
      return { key, count: values.length, values: values.slice(0, VALUES) };
    }),
  );
  return all.filter(({ values }) => values.some(({ value }) => value !== null));
}

/** Return what the server is: `{now, writable, promql, …}`. */
export const info = (signal) => ask("info", {}, signal);

/** Return what each metric did in a window; see `/api/overview`. */
export const overview = ({ since, until, step, tags }, signal) =>
  ask("overview", { since, until, interval: `${step}s`, tag: tags, limit: 2000 }, signal);

export const stats = async (signal) => (await ask("stats", {}, signal)).storage;
