/* The x axis of a chart, and what each run came to: last, best and duration. */

import { h, fill, refill, icon, ICONS, bdi } from "../dom.js";
import { change, filters } from "../address.js";
import { number, quantity, span } from "../format.js";
import { METADATA, keysOf } from "../runs.js";
import { item, menu, segments } from "./menu.js";
import { unitOf } from "./model.js";

const COLUMNS = {
  best: ["Best", (run, best) => run[best]],
  last: ["Last", (run) => run.last],
  sum: ["Total", (run) => run.sum],
  seconds: ["Duration", (run) => run.seconds],
  count: ["Samples", (run) => run.count],
};
const columnsOf = ({ type }) =>
  type === "counter" ? ["sum", "seconds", "count"] : ["last", "best", "seconds", "count"];

/** What the address requests: whether the lowest or highest is best, and the table's order. */
export function orderOf(metric, query) {
  const best = query.get("best") === "max" ? "max" : "min";
  const columns = columnsOf(metric);
  const sort = [...columns, "name"].includes(query.get("sort"))
    ? query.get("sort")
    : columns[0] === "sum"
      ? "sum"
      : "best";
  const down = query.has("down") ? query.get("down") === "1" : startsDown(sort, best);
  return { best, sort, down };
}

const startsDown = (sort, best) => (sort === "best" ? best === "max" : sort !== "name");

/** Return the runs in the order that the address requests; those without a value come last. */
export function sorted(runs, { best, sort, down }) {
  const value = (run) => (sort === "name" ? 0 : COLUMNS[sort][1](run, best));
  const byName = (a, b) => a.label.localeCompare(b.label, undefined, { numeric: true });
  return [...runs].sort((a, b) => {
    const [left, right] = [value(a), value(b)];
    if (left === null || right === null) return (left === null) - (right === null);
    const order = sort === "name" ? byName(a, b) : left - right;
    return (down ? -order : order) || byName(a, b);
  });
}

/** The button that chooses the x axis. */
export function axisMenu(metric, query) {
  const x = query.get("x");
  const name = !x ? "time" : x.startsWith(METADATA) ? x.slice(METADATA.length) : NAMES[x] ?? x;
  const { element } = menu(
    [h("span.soft", {}, "X axis"), bdi(name), icon(ICONS.down)],
    (close) => axisItems(metric, query, close),
    { title: "Choose the x axis (x)" },
  );
  element.classList.add("x-axis");
  return element;
}

const NAMES = { elapsed: "elapsed", time: "each sample" };

function axisItems(metric, query, close) {
  const now = query.get("x");
  const list = h("div", {}, h("p.soft.pad", {}, "…"));
  const show = ({ numbers, tags }) => {
    const run = tags.includes("run") ? "run" : null;
    const choose = (x) => () => {
      close();
      const by = query.getAll("by");
      change({ x, by: x && !by.length ? run : by, from: null, to: null });
    };
    fill(
      list,
      item("Time, by interval", !now, choose(null)),
      item("Time of each sample", now === "time", choose("time")),
      item("Elapsed since a run began", now === "elapsed", choose("elapsed")),
      numbers.map((key) =>
        item(bdi(key), now === METADATA + key, choose(METADATA + key), "metadata"),
      ),
    );
    (list.querySelector("[aria-current]") ?? list.firstChild).focus();
  };
  keysOf(metric.name).then(show, () => show({ numbers: [], tags: [] }));
  return list;
}

/** The choices beside the x axis: which value is the best. */
export function bestChoice(metric, query) {
  if (metric.type === "counter") return null;
  const { best } = orderOf(metric, query);
  return h(
    "span.group.best",
    {},
    h("span.soft", {}, "Best is"),
    segments(
      "Which value is best",
      [
        ["min", "Lowest"],
        ["max", "Highest"],
      ],
      best,
      (each) => change({ best: each, down: null }, { replace: true }),
    ),
  );
}

/** The table of runs; *highlight* is called with the tags of the run under the pointer. */
export function runTable(highlight) {
  const element = h("div.scroll.runs");

  function show(metric, runs, query) {
    const order = orderOf(metric, query);
    refill(
      element,
      h(
        "table",
        {},
        h("caption.visually-hidden", {}, "Figures of each run"),
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            head("name", query.getAll("by").join(" · ") || "Run", order),
            columnsOf(metric).map((key) => head(key, COLUMNS[key][0], order)),
          ),
        ),
        h(
          "tbody",
          {},
          sorted(runs, order).map((run) => row(metric, run, query, order)),
        ),
      ),
    );
  }

  function head(key, text, { sort, down, best }) {
    const is = key === sort;
    const next = is ? !down : startsDown(key, best);
    return h(
      key === "name" ? "th" : "th.number",
      { scope: "col", "aria-sort": is ? (down ? "descending" : "ascending") : null },
      h(
        "button",
        {
          onclick: () => change({ sort: key, down: next ? "1" : "0" }, { replace: true }),
        },
        bdi(text),
        is && h("i.sorted", {}, down ? "↓" : "↑"),
      ),
    );
  }

  function row(metric, run, query, { best }) {
    const only = Object.entries(run.tags).map(([key, value]) =>
      value === null ? `!${key}` : `${key}=${value}`,
    );
    const narrow = () =>
      change({ tag: [...new Set([...filters(query).map(({ text }) => text), ...only])] });
    const point = () => highlight(run);
    const leave = () => highlight(null);
    return h(
      "tr",
      { onpointerenter: point, onpointerleave: leave },
      h(
        "th",
        { scope: "row" },
        h("i.swatch", { class: run.dash ? "dashed" : "", style: { "--dye": run.color } }),
        only.length
          ? h(
              "button.link",
              { title: "Only this run", onclick: narrow, onfocus: point, onblur: leave },
              bdi(run.label),
            )
          : h("span", {}, run.label),
      ),
      columnsOf(metric).map((key) =>
        h(
          "td.number",
          { title: key === "seconds" ? null : exact(COLUMNS[key][1](run, best)) },
          figure(metric, key, COLUMNS[key][1](run, best)),
        ),
      ),
    );
  }

  return { element, show };
}

const exact = (value) => (value === null ? null : String(value));

function figure(metric, key, value) {
  if (key === "count") return number(value);
  if (key !== "seconds") return quantity(value, unitOf(metric, "last"));
  return value < 10 ? quantity(value, "seconds") : span(value);
}
