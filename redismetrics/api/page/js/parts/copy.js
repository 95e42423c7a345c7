/* The query on the screen as an address, and for curl, Python, the command line and PromQL. */

import { h, icon, ICONS } from "../dom.js";
import { filters, spell } from "../address.js";
import { address as addressOf } from "../api.js";
import { question } from "../runs.js";
import { menu } from "./menu.js";

export function copyMenu(app, metric, choice, query, window) {
  return menu(
    [icon(ICONS.copy), h("span.wide", {}, "Copy as"), icon(ICONS.down)],
    (close) =>
      Object.entries(wordings(metric, choice, query, window)).map(([name, text]) =>
        h(
          "button.item.tall",
          {
            onclick: () => {
              close();
              copy(app, name, text);
            },
          },
          h("span", {}, name),
          h("code", {}, text),
        ),
      ),
    { end: true, title: "Copy this query" },
  );
}

async function copy(app, name, text) {
  try {
    await navigator.clipboard.writeText(text);
    app.note(`Copied: ${name}`);
  } catch {
    app.note("The browser does not allow copying here");
  }
}

/** Return name -> text of the current query. */
export function wordings(metric, choice, query, window) {
  if (query.has("x")) return wordingsOfRuns(metric.name, query, window);
  const { aggregations } = choice,
    isHeat = choice.value === "heat";
  const by = isHeat ? [] : query.getAll("by"),
    chosen = filters(query),
    step = spell(window.step);
  const times = window.fixed
    ? { since: window.since, until: window.until }
    : { window: window.text };
  const asked = {
    name: metric.name,
    interval: step,
    aggregation: isHeat ? [] : aggregations,
    group_by: by,
    tag: chosen.map(({ text }) => text),
    ...times,
  };
  const address = addressOf(isHeat ? "heat" : "time_series", asked).href;
  return {
    ...links(address),
    Python: python(metric.name, step, isHeat ? [] : aggregations, by, chosen, window),
    "Command line": commandLine(metric.name, step, isHeat ? [] : aggregations, by, chosen, window),
    PromQL: promql(metric, choice, by, chosen, step),
  };
}

const links = (address) => ({
  "Link to this view": location.href,
  "API address": address,
  curl: `curl -H "Authorization: Bearer $REDISMETRICS_TOKEN" ${shell(address)}`,
});

function wordingsOfRuns(name, query, window) {
  const x = query.get("x"),
    by = query.getAll("by"),
    chosen = filters(query);
  const times = window.fixed
    ? { since: window.since, until: window.until }
    : { window: window.text };
  const { whole, ...axis } = question(x);
  const tag = chosen.map(({ text }) => text);
  const asked = { name, ...axis, whole, group_by: by, tag, ...times };
  const parts = [
    quote(name),
    `x=${quote(x)}`,
    ...(whole ? ["whole=True"] : []),
    `window=${pythonWindow(window)}`,
  ];
  return {
    ...links(addressOf("runs", asked).href),
    Python: `rm.runs(${[...parts, ...pythonGroups(by, chosen)].join(", ")})`,
    "Command line": [
      `redismetrics runs ${name} --x ${shell(x)}${whole ? " --whole" : ""}`,
      ...shellParts(by, chosen, window),
    ].join(" "),
  };
}

const pythonTag = ({ key, value }) => `${quote(key)}: ${value === null ? "None" : quote(value)}`;
const quote = (text) => JSON.stringify(text);
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;
// Tag keys come from the address, which anybody may have written.
const word = (text) => (/^[\w.,:/-]+$/.test(text) ? text : shell(text));

function python(name, step, aggregations, by, chosen, window) {
  const parts = [
    quote(name),
    `interval=${quote(step)}`,
    `window=${pythonWindow(window)}`,
    ...pythonGroups(by, chosen),
  ];
  // A heat map does not have any.
  if (aggregations.length)
    parts.splice(2, 0, `aggregations=[${aggregations.map(quote).join(", ")}]`);
  return `rm.${aggregations.length ? "time_series" : "heat_map"}(${parts.join(", ")})`;
}

const pythonWindow = ({ fixed, since, until, text }) =>
  fixed
    ? `(datetime.fromtimestamp(${since}, UTC), datetime.fromtimestamp(${until}, UTC))`
    : quote(text);

const pythonGroups = (by, chosen) => [
  ...(by.length ? [`group_by=[${by.map(quote).join(", ")}]`] : []),
  ...(chosen.length ? [`tags={${chosen.map(pythonTag).join(", ")}}`] : []),
];

function commandLine(name, step, aggregations, by, chosen, window) {
  const command = aggregations.length ? "time-series" : "heat-map";
  const parts = [`redismetrics ${command} ${name} --interval ${step}`];
  if (aggregations.length) parts.push(`-a ${aggregations.join(",")}`);
  return [...parts, ...shellParts(by, chosen, window)].join(" ");
}

function shellParts(by, chosen, window) {
  const iso = (time) => new Date(time * 1000).toISOString().replace(".000", "");
  return [
    ...(by.length ? [`-g ${word(by.join(","))}`] : []),
    ...chosen.map(({ text }) => `--tag ${shell(text)}`),
    window.fixed
      ? `--since ${iso(window.since)} --until ${iso(window.until)}`
      : `--window ${window.text}`,
  ];
}

/** With the names of the Prometheus page. There, percentiles are estimated from buckets. */
export function promql({ name, type }, { value }, by, chosen, step) {
  const clean = name.replace(/[^A-Za-z0-9_:]/g, "_");
  const label = (key) => key.replace(/[^A-Za-z0-9_]/g, "_");
  const labels = chosen.map(({ key, value: text }) => `${label(key)}=${quote(text ?? "")}`);
  const matcher = labels.length ? `{${labels.join(",")}}` : "";
  const groups = by.map(label);
  const range = `[${step}]`,
    grouping = by.length ? ` by (${groups.join(", ")})` : "";
  const sum = (of) => `sum${grouping} (${of})`;
  if (type === "counter")
    return sum(`${value === "rate" ? "rate" : "increase"}(${clean}_total${matcher}${range})`);
  if (type === "gauge")
    return `${value === "min" || value === "max" ? value : "avg"}${grouping} (${clean}${matcher})`;
  const rate = (suffix) => `rate(${clean}_${suffix}${matcher}${range})`;
  if (value === "mean") return `${sum(rate("sum"))} / ${sum(rate("count"))}`;
  if (value === "rate") return sum(rate("count"));
  const part = value.startsWith("p") ? Number(value.slice(1)) / 100 : 0.95;
  return `histogram_quantile(${part}, sum by (${["le", ...groups].join(", ")}) (${rate("bucket")}))`;
}
