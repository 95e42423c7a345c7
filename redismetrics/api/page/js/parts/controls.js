/* What a chart of a metric shows: the aggregation, the groups, the style, and a comparison. */

import { h, icon, ICONS, bdi } from "../dom.js";
import { change } from "../address.js";
import { keysOf } from "../questions.js";
import { BANDS, HEAT, kindOf } from "../kinds.js";
import { menu, segments } from "./menu.js";
import { axisMenu, bestChoice } from "./runs.js";

const STYLES = [
  ["line", "Lines"],
  ["area", "Stacked"],
  ["bar", "Bars"],
];

/** What the address requests of *metric*: `{value, aggregations, figures, style}`. */
export function choiceOf({ type }, query) {
  const { choices: options, figures } = kindOf(type);
  const grouped = query.getAll("by").length > 0;
  let value = options.some(([each]) => each === query.get("show"))
    ? query.get("show")
    : options[0][0];
  // Bands of several groups would overlap.
  if (value === "bands" && grouped) value = "p95";
  const style = query.get("style") ?? (value === "sum" || value === "count" ? "bar" : "line");
  return {
    value,
    style,
    aggregations: { bands: BANDS, heat: HEAT }[value] ?? [value],
    figures,
  };
}

export function controls(metric, query, window) {
  const { value, style } = choiceOf(metric, query);
  const plain = value === "bands" || value === "heat";
  const grouped = query.getAll("by");
  const set = (values) => change(values, { replace: true });
  const by = menu(
    [h("span.soft", {}, "Group by"), bdi(grouped.join(", ") || "none"), icon(ICONS.down)],
    () => groupItems(metric, query, window),
    { title: "Group by tags" },
  );
  const axis = axisMenu(metric, query);
  if (query.has("x")) return [axis, by.element, bestChoice(metric, query)];
  return [
    segments("What to show", kindOf(metric.type).choices, value, (show) => set({ show })),
    by.element,
    axis,
    !plain && segments("How to draw it", STYLES, style, (each) => set({ style: each })),
    h("span.fill"),
    h(
      "button.button",
      {
        "aria-pressed": String(query.has("compare")),
        title: "Overlay the previous window (c)",
        disabled: value === "heat",
        onclick: () => set({ compare: query.has("compare") ? null : "1" }),
      },
      "Compare",
    ),
    h(
      "button.button",
      {
        "aria-pressed": String(query.has("zero")),
        title: "Start the axis at zero (z)",
        disabled: plain || style !== "line",
        onclick: () => set({ zero: query.has("zero") ? null : "1" }),
      },
      "Zero-based",
    ),
  ];
}

function groupItems(metric, query, window) {
  const list = h("div", {}, h("p.soft.pad", {}, "…"));
  keysOf({ name: metric.name, ...window }).then(
    (keys) => {
      const on = query.getAll("by");
      list.replaceChildren(
        ...keys.map((key) =>
          h(
            "label.item",
            {},
            h("input", {
              type: "checkbox",
              checked: on.includes(key),
              onchange: (event) => {
                const now = event.target.checked ? [...on, key] : on.filter((each) => each !== key);
                change({ by: now });
              },
            }),
            h("span", {}, bdi(key)),
          ),
        ),
      );
    },
    () => {
      list.textContent = "The tags could not be read";
    },
  );
  return list;
}
