/* One metric of the overview. The same element is a row or a card, by the style sheet. */

import { h, fill, bdi } from "../dom.js";
import { href } from "../address.js";
import { ago, number, quantity, signed, whole } from "../format.js";
import { spark } from "../chart/spark.js";
import { kindOf } from "../kinds.js";

export const COLUMNS = [
  ["name", "Metric"],
  ["trend", "Trend"],
  ["rate", "Rate"],
  ["last", "Last"],
  ["p95", "p95"],
  ["change", "Change"],
  ["series", "Series"],
  ["seen", "Seen"],
];
const QUIET = 300; // seconds without a sample until the row says so

export class MetricRow {
  constructor(name) {
    this.name = name;
    this.cells = Object.fromEntries(
      COLUMNS.map(([key]) => [key, h(`span.${key}`, { role: "cell" })]),
    );
    this.headline = h("span.headline", { "aria-hidden": "true" });
    this.link = h("a.open");
    this.cells.name.append(this.link);
    this.element = h(
      "div.metric",
      { role: "row", "data-name": name },
      this.cells.name,
      this.headline,
      Object.values(this.cells).slice(1),
    );
  }

  /** Show a metric of the overview; *isFixed*: for a window in the past, without live values. */
  show(metric, now, isFixed) {
    const { cells } = this;
    const seen = now - Date.parse(metric.last_seen) / 1000;
    this.link.href = href("metric", this.name);
    this.element.classList.add(kindOf(metric.type).color);
    this.element.classList.toggle("quiet", seen > QUIET);
    this.element.classList.toggle("waiting", !metric.at);
    if (this.metric?.name !== metric.name)
      fill(
        this.link,
        h(`i.type.${kindOf(metric.type).color}`, { title: metric.type }),
        bdi(metric.name),
      );
    this.metric = metric;
    this.tell(isFixed ? metric : { ...metric, ...this.live });
    cells.p95.textContent = metric.p95 === null ? "" : quantity(metric.p95, metric.unit);
    cells.series.textContent = whole(metric.series);
    cells.seen.textContent = ago(seen);
    this.showChange(metric);
    fill(cells.trend, spark(metric, `trend of ${this.name}`));
  }

  /** Show how the window compares with the previous one. */
  showChange({ change: part = null }) {
    this.cells.change.textContent = part === null ? "" : signed(part);
    this.cells.change.dataset.size =
      part === null ? "" : Math.abs(part) > 0.5 ? "large" : Math.abs(part) > 0.1 ? "some" : "";
    this.cells.change.title = "compared with the previous window";
  }

  /** Show the rate, and the last value if given, of the window or live. */
  tell({ rate, last }) {
    const { type, unit, p95, series } = this.metric;
    const shown = rate === null ? "–" : `${number(rate)}/s`;
    put(this.cells.rate, shown);
    // Live, the last value of one series does not represent all of them.
    if (last !== undefined && (series === 1 || last === this.metric.last)) {
      this.last = type === "counter" && last !== null ? `+${number(last)}` : quantity(last, unit);
      put(this.cells.last, this.last);
    }
    const of = kindOf(type).main;
    put(this.headline, { rate: shown, mean: this.last, p95: quantity(p95, unit) }[of]);
    this.headline.dataset.of = of === "p95" ? of : "";
  }

  /** Show figures of the last seconds from the stream; null: figures of the window. */
  goOn(live) {
    this.live = live;
    this.tell(live ?? this.metric);
  }
}

function put(cell, text) {
  if (cell.textContent !== text) cell.textContent = text;
}
