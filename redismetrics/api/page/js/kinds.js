/* How each type of metric is shown: what a chart of it draws, and which figures its table has. */

const COUNTER = {
  color: "counter",
  main: "rate",
  choices: [
    ["rate", "Rate"],
    ["sum", "Sum"],
    ["count", "Samples"],
    ["max", "Max"],
  ],
  figures: ["sum", "rate", "max"],
};
const GAUGE = {
  color: "gauge",
  main: "mean",
  choices: [
    ["last", "Last"],
    ["mean", "Mean"],
    ["min", "Min"],
    ["max", "Max"],
  ],
  figures: ["last", "min", "mean", "max"],
};
const HISTOGRAM = {
  color: "histogram",
  main: "p95",
  choices: [
    ["bands", "Percentiles"],
    ["heat", "Heat map"],
    ["p50", "p50"],
    ["p95", "p95"],
    ["p99", "p99"],
    ["mean", "Mean"],
    ["rate", "Rate"],
  ],
  figures: ["count", "mean", "p50", "p95", "p99", "max"],
};
const KINDS = { counter: COUNTER, gauge: GAUGE, histogram: HISTOGRAM, summary: HISTOGRAM };
export const HEAT = ["p50", "p95"];
export const BANDS = ["p5", "p25", "p50", "p75", "p95", "p99"];

/** Return how a metric of *type* is shown; infos and state sets are shown as gauges. */
export const kindOf = (type) => KINDS[type] ?? GAUGE;
