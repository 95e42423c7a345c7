/* What a chart draws of an answer: colours, labels, bands, the window before. */

import { color, paint } from "../chart/colors.js";
import { kindOf } from "../kinds.js";

const MIDDLE = 2; // of the percentiles that make bands: p50

const columnOf = (values) => Float64Array.from(values, (value) => value ?? NaN);

/** Return a group's tags as one text, or *fallback* if it has none. */
export const labelOf = (tags, fallback) =>
  Object.entries(tags)
    .map(([key, value]) => value ?? `no ${key}`)
    .join(" · ") || fallback;

const AMOUNTS = new Set(["rate", "sum", "count"]);

/** Remove the amount of an incomplete interval, because it would look like a drop. */
export function withoutIncomplete(answer, { value }, now) {
  const { times, interval, groups } = answer;
  const last = times.length - 1;
  if (!AMOUNTS.has(value) || last < 0 || times[last] + interval <= now) return answer;
  const columns = groups.map(({ values }) => values[value]);
  // The first minute of a metric is shown even while it is incomplete.
  if (columns.some((column) => column.slice(0, last).some(Boolean)))
    for (const column of columns) column[last] = null;
  return answer;
}

export function modelOf(metric, choice, answer, before, window) {
  const { times, groups, interval } = answer;
  const model = {
    times,
    since: window.since,
    until: window.until,
    step: interval,
    unit: unitOf(metric, choice.value),
    kind: "line",
    series: [],
  };
  if (choice.value === "heat") {
    const lines = groups.length
      ? [lineOf(groups[0], "p50", color("ink")), lineOf(groups[0], "p95", color("ink"), [5, 3])]
      : [];
    return { ...model, heat: answer.heat, series: lines };
  }
  if (choice.value === "bands") {
    const values = groups[0]?.values ?? {};
    const dye = color(kindOf(metric.type).color);
    const middle = groups.length ? [lineOf(groups[0], "p50", dye)] : [];
    return {
      ...model,
      series: groups.length ? [...middle, lineOf(groups[0], "p99", dye, [2, 3])] : [],
      previous: previousOf(before, "p50", times, middle),
      bands: {
        columns: ["p5", "p25", "p50", "p75", "p95"].map((key) => columnOf(values[key] ?? [])),
        labels: ["p5", "p25", "p50", "p75", "p95"],
        middle: MIDDLE,
        color: dye,
      },
    };
  }
  const alone = groups.length === 1 && !Object.keys(groups[0].tags).length;
  const series = groups.map(({ tags, values }, place) => ({
    ...(alone ? { color: color(kindOf(metric.type).color) } : paint(place)),
    tags,
    label: labelOf(tags, choice.value),
    values: columnOf(values[choice.value]),
  }));
  return {
    ...model,
    kind: choice.style,
    series,
    previous: previousOf(before, choice.value, times, series, choice.style !== "line"),
  };
}

function lineOf(group, key, dye, dash = null) {
  return { label: key, color: dye, dash, tags: {}, values: columnOf(group?.values[key] ?? []) };
}

/** Return the previous window of at most eight groups of *series*, or the sum of stacked ones. */
function previousOf(before, key, times, series, stacked = false) {
  if (!before) return [];
  if (stacked) {
    const total = Float64Array.from(times, (_, at) =>
      before.groups.reduce((sum, { values }) => sum + (values[key][at] ?? 0), 0),
    );
    return [{ label: "total, before", dash: [4, 4], color: color("ink"), values: total }];
  }
  const groups = new Map(before.groups.map((each) => [JSON.stringify(each.tags), each]));
  return series.slice(0, 8).flatMap(({ tags, label, color: dye }) => {
    const found = groups.get(JSON.stringify(tags));
    if (!found) return [];
    return {
      label: `${label}, before`,
      dash: [4, 4],
      color: series.length === 1 ? color("soft") : dye,
      values: columnOf(Array.from(times, (_, at) => found.values[key][at] ?? null)),
    };
  });
}

export function unitOf({ type, unit }, value) {
  if (value === "rate") return type === "counter" && unit ? `${unit}/s` : "/s";
  return value === "count" ? "" : unit;
}
