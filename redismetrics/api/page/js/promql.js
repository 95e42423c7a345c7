/* PromQL: evaluation, completion and examples, by the API of Prometheus. */

import { ask } from "./api.js";

const SHOWN = 50; // series of a chart
const RESERVED = new Set(["__name__", "le"]);

/** Evaluate *query* over a window: `{times, interval, groups, left, warnings}`. */
export async function range(query, { since, until, step }, signal) {
  const asked = { query, start: since, end: until, step };
  const { data, warnings = [] } = await ask("v1/query_range", asked, signal);
  const count = Math.floor((until - since) / step) + 1;
  const times = Array.from({ length: count }, (_, at) => since + at * step);
  const groups = data.result.map(({ metric, values }) => {
    const value = Array(count).fill(null);
    for (const [time, text] of values) {
      const number = Number(text.replace("Inf", "Infinity"));
      if (Number.isFinite(number)) value[Math.round((time - since) / step)] = number;
    }
    return { tags: metric, values: { value } };
  });
  const left = Math.max(0, groups.length - SHOWN);
  return { times, interval: step, groups: groups.slice(0, SHOWN), left, warnings };
}

/** Evaluate *query* at one time: labels as JSON -> value. */
export async function instant(query, time, signal) {
  const { data } = await ask("v1/query", { query, time }, signal);
  if (data.resultType === "scalar") return new Map([["{}", data.result[1]]]);
  if (data.resultType !== "vector") return new Map();
  return new Map(data.result.map(({ metric, value }) => [JSON.stringify(metric), value[1]]));
}

/** Return the names of metrics and of labels, as PromQL has them. */
export async function words(signal) {
  const [metrics, labels] = await Promise.all([
    ask("v1/label/__name__/values", {}, signal),
    ask("v1/labels", {}, signal),
  ]);
  return { metrics: metrics.data, labels: labels.data.filter((each) => !RESERVED.has(each)) };
}

/** Return expressions over metrics that exist, as [text, explanation]. */
export function examples({ metrics }) {
  const isOwn = (name) => !name.startsWith("redismetrics_") && !name.startsWith("ALERTS");
  const own = metrics.filter(isOwn);
  const counter = own.find((name) => name.endsWith("_total"));
  const buckets = own.find((name) => name.endsWith("_bucket"));
  const gauge = own.find((name) => !/_(total|bucket|count|sum|info|created)$/.test(name));
  const found = [];
  if (counter) {
    found.push([`sum(rate(${counter}[5m]))`, "the rate per second, of all series together"]);
    found.push([`topk(5, rate(${counter}[5m]))`, "the five busiest series"]);
    found.push([
      `sum(rate(${counter}[5m])) / sum(rate(${counter}[5m] offset 1h))`,
      "compared with an hour ago",
    ]);
  }
  if (buckets) {
    const quantile = `histogram_quantile(0.95, sum by (le) (rate(${buckets}[5m])))`;
    found.push([quantile, "the 95th percentile"]);
  }
  if (gauge) found.push([`avg(${gauge})`, "the mean of all series"]);
  return found;
}

/** Return a series as PromQL writes it: name{label="value"}. */
export function spellSeries({ __name__: name = "", ...labels }) {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  return name + (pairs.length || !name ? `{${pairs.join(", ")}}` : "");
}
