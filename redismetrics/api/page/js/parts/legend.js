/* The groups of a chart as a table of figures of the whole window. */

import { h, refill, bdi } from "../dom.js";
import { change, filters } from "../address.js";
import { quantity, number } from "../format.js";
import { labelOf, unitOf } from "./model.js";

const NAMES = {
  sum: "Sum",
  rate: "Rate",
  max: "Max",
  min: "Min",
  last: "Last",
  mean: "Mean",
  count: "Samples",
};

export function legend(highlight) {
  const element = h("div.scroll");
  let order = null;

  function show(metric, choice, model, { groups }, query) {
    const by = query.getAll("by");
    const main = choice.figures[0];
    const column = choice.figures.includes(order) ? order : main;
    const most = Math.max(...groups.map(({ values }) => values[main] ?? 0));
    const swatches = new Map(
      [...model.series].reverse().map((series) => [JSON.stringify(series.tags), series]),
    );
    const sorted = [...groups].sort(
      (a, b) => (b.values[column] ?? -Infinity) - (a.values[column] ?? -Infinity),
    );
    const draw = () => show(metric, choice, model, { groups }, query);
    const heads = choice.figures.map((key) =>
      h(
        "th.number",
        { "aria-sort": key === column ? "descending" : null },
        h(
          "button",
          {
            onclick: () => {
              order = key;
              draw();
            },
          },
          NAMES[key] ?? key,
          key === column && h("i.sorted", {}, "↓"),
        ),
      ),
    );
    const rows = sorted.map(({ tags, values }) => {
      const series = swatches.get(JSON.stringify(tags));
      const narrow = () =>
        change({
          tag: [
            ...filters(query).map(({ text }) => text),
            ...Object.entries(tags).map(([key, value]) =>
              value === null ? `!${key}` : `${key}=${value}`,
            ),
          ],
        });
      return h(
        "tr",
        {
          onpointerenter: () => series && highlight(series),
          onpointerleave: () => highlight(null),
        },
        h(
          "th",
          { scope: "row" },
          h("i.swatch", {
            class: series?.dash ? "dashed" : "",
            style: { "--dye": series?.color ?? "var(--line-strong)" },
          }),
          by.length
            ? h(
                "button.link",
                {
                  title: "Only these",
                  onclick: narrow,
                  onfocus: () => series && highlight(series),
                  onblur: () => highlight(null),
                },
                bdi(labelOf(tags, "")),
              )
            : h("span", {}, "All series"),
        ),
        choice.figures.map((key) =>
          h(
            "td.number",
            {},
            figure(values[key], metric, key),
            key === main &&
              by.length > 0 &&
              h("i.share", { style: { "--part": (values[main] ?? 0) / (most || 1) } }),
          ),
        ),
      );
    });
    refill(
      element,
      h(
        "table",
        {},
        h("caption.visually-hidden", {}, "Figures of the whole window, by group"),
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col" }, by.length ? by.join(" · ") : "In this window"),
            heads,
          ),
        ),
        h("tbody", {}, rows),
      ),
    );
  }

  const figure = (value, metric, key) =>
    key === "count" || (key === "sum" && !metric.unit)
      ? number(value)
      : quantity(value, unitOf(metric, key));

  return { element, show };
}
