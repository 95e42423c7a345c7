/* What the colours of a heat map mean, and its figures as a table. */

import { h, fill } from "../dom.js";
import { clock, quantity, tick, whole } from "../format.js";
import { steps } from "../chart/heat.js";

const SPANS = 12; // columns of the table

export function heatTable() {
  const key = h("ul.heat-key", { "aria-label": "Samples in a cell" });
  const body = h("div.scroll", { tabindex: 0, role: "group", "aria-label": "Table, scrollable" });
  const details = h("details.heat-table", {}, h("summary", {}, "Heat map as a table"), body);
  const element = h("div", { hidden: true }, key, details);
  let model = null;
  details.addEventListener("toggle", draw);

  /** Show the heat map of a chart's model; hide the element for other kinds of chart. */
  function show(next) {
    model = next;
    element.hidden = !model.heat?.edges.length;
    if (element.hidden) return;
    fill(
      key,
      steps(model.heat).map(({ count, color }) =>
        h("li", {}, h("i", { style: { background: color } }), whole(count)),
      ),
      h("li.soft", {}, "samples in a cell"),
    );
    draw();
  }

  // Only while it is open, because it has hundreds of cells.
  function draw() {
    if (details.open && model) fill(body, table(model));
  }

  return { element, show };
}

/** The buckets that have samples, highest first, by parts of the window. */
function table({ heat, unit, zone }) {
  const { times, counts, edges, interval } = heat;
  const size = Math.ceil(times.length / SPANS);
  const starts = times.filter((_, at) => at % size === 0);
  const sums = (row) => {
    const of = starts.map(() => 0);
    counts.forEach((column, at) => (of[Math.floor(at / size)] += column[row]));
    return of;
  };
  const rows = edges
    .slice(0, -1)
    .map((from, row) => ({ from, to: edges[row + 1], sums: sums(row) }))
    .map((row) => ({ ...row, total: row.sums.reduce((a, b) => a + b, 0) }))
    .filter(({ total }) => total)
    .reverse();
  const label = (time) =>
    size * interval < 86400 ? clock(time, zone).slice(0, 5) : tick(time, 86400, zone);
  return h(
    "table",
    {},
    h("caption.visually-hidden", {}, "Samples by value and time"),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { scope: "col" }, "Values"),
        starts.map((time) => h("th.number", { scope: "col" }, `from ${label(time)}`)),
        h("th.number", { scope: "col" }, "All"),
      ),
    ),
    h(
      "tbody",
      {},
      rows.map(({ from, to, sums: of, total }) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, `${quantity(from, unit)} to ${quantity(to, unit)}`),
          [...of, total].map((count) => h("td.number", {}, count ? whole(count) : "·")),
        ),
      ),
    ),
  );
}
