/* PromQL: evaluation, completion and examples, by the API of Prometheus. */

import { ask } from "./api.js";

const SHOWN = 50; // series of a chart
const MOST = 500; // series of an answer
const TRUNCATED = "results truncated due to limit";
const RESERVED = new Set(["__name__", "le"]);

/** Evaluate *query* over a window: `{times, interval, groups, left, isCut, warnings}`.
 *
 * *left* is the number of series missing from *groups*, or a lower bound if the answer was cut.
 */
export async function range(query, { since, until, step }, signal) {
  const asked = { query, start: since, end: until, step, limit: MOST };
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
  const isCut = warnings.includes(TRUNCATED);
  const told = warnings.filter((text) => text !== TRUNCATED);
  const shown = groups.slice(0, SHOWN);
  return { times, interval: step, groups: shown, left, isCut, warnings: told };
}

/** Evaluate *query* at one time: labels as JSON -> value. */
export async function instant(query, time, signal) {
  const { data } = await ask("v1/query", { query, time, limit: MOST }, signal);
  if (data.resultType === "scalar") return new Map([["{}", data.result[1]]]);
  if (data.resultType !== "vector") return new Map();
  return new Map(data.result.map(({ metric, value }) => [JSON.stringify(metric), value[1]]));
}

/** Return the names of metrics and labels in PromQL. */
export async function words(signal) {
  const [metrics, labels] = await Promise.all([
    ask("v1/label/__name__/values", {}, signal),
    ask("v1/labels", {}, signal),
  ]);
  return { metrics: metrics.data, labels: labels.data.filter((each) => !RESERVED.has(each)) };
}

/** Return values of a label, of the series of *metric* if given. */
export async function labelValues(label, metric, signal) {
  const asked = { "match[]": metric, limit: MOST };
  return (await ask(`v1/label/${encodeURIComponent(label)}/values`, asked, signal)).data;
}

// Errors of the scanner, the only ones that may be at the very first character.
const SCANNED = /^(unclosed|unterminated|unexpected (character|right)|unknown function)/;

/** Return where *text* has the error that the API reports, as [from, to); by default all of it.
 *
 * Positions are as in Prometheus, `line:column`, counting characters from 1.
 */
export function placeOf(message, text) {
  const everything = [0, text.length];
  const found = /^(\d+):(\d+): parse error: (.*)/s.exec(message);
  if (!found) return everything;
  const [line, column] = [found[1] - 1, found[2] - 1];
  if (!line && !column && !SCANNED.test(found[3])) return everything;
  const lines = text.split("\n");
  if (!(line in lines)) return everything;
  const before = lines.slice(0, line).reduce((sum, each) => sum + each.length + 1, 0);
  const from = before + [...lines[line]].slice(0, column).join("").length;
  const rest = text.slice(from);
  // An unclosed quote extends to the end.
  const length = /^["'`]/.test(rest) ? rest.length : (/^([\w:]+|.)/su.exec(rest)?.[0].length ?? 0);
  return length ? [from, from + length] : everything;
}

/** Return expressions over existing metrics, as [text, explanation]. */
export function examples({ metrics }) {
  const isOwn = (name) => !name.startsWith("redismetrics_") && !name.startsWith("ALERTS");
  const own = metrics.filter(isOwn);
  const counter = own.find((name) => name.endsWith("_total"));
  const buckets = own.find((name) => name.endsWith("_bucket"));
  const gauge = own.find((name) => !/_(total|bucket|count|sum|info|created)$/.test(name));
  const found = [];
  if (counter) {
    found.push([`sum(rate(${counter}[5m]))`, "rate per second, summed over all series"]);
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
  if (gauge) found.push([`avg(${gauge})`, "mean over all series"]);
  return found;
}

/** Return a series as PromQL writes it: name{label="value"}. */
export function spellSeries({ __name__: name = "", ...labels }) {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  return name + (pairs.length || !name ? `{${pairs.join(", ")}}` : "");
}
