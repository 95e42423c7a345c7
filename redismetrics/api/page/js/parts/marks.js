/* The marks of a window, such as deploys: lines on a chart, and a table below it. */

import { h, refill, bdi } from "../dom.js";
import { moment, whole } from "../format.js";
import { marks as marksOf, MOST_MARKS } from "../questions.js";

/** *chart* is the chart with the lines: a row of the table highlights its line. */
export function marksTable(app, chart) {
  const element = h("section.card.flush", { hidden: true, "aria-label": "Marks" });
  let shown = "";

  function show(marks) {
    const wanted = JSON.stringify([marks, app.zone]);
    if (wanted === shown) return;
    shown = wanted;
    element.hidden = !marks.length;
    const count = whole(marks.length);
    refill(
      element,
      h(
        "header",
        {},
        h("h2", {}, "Marks"),
        h("small.soft", {}, marks.length < MOST_MARKS ? count : `the newest ${count}`),
      ),
      h(
        "div.scroll.marks",
        { tabindex: 0, role: "group", "aria-label": "Marks of the window" },
        h(
          "table",
          {},
          h("caption.visually-hidden", {}, "What happened in this window, the newest first"),
          h("tbody", {}, marks.map(row)),
        ),
      ),
    );
  }

  const row = (mark) => {
    const on = () => chart.point(mark),
      off = () => chart.point(null);
    return h(
      "tr",
      { onpointerenter: on, onpointerleave: off },
      h(
        "th",
        { scope: "row" },
        h(
          "button.link",
          {
            title: "Show it on the chart",
            onclick: () => chart.goTo(mark),
            onfocus: on,
            onblur: off,
          },
          bdi(mark.text),
        ),
        h(
          "div.tags",
          {},
          Object.entries(mark.tags).map(([key, value]) =>
            h("span", {}, h("small.soft", {}, bdi(key)), " ", bdi(value)),
          ),
        ),
      ),
      h("td.number", {}, h("time", {}, moment(mark.time, app.zone))),
    );
  };

  return { element, show };
}

/** Return the marks of a window, or none on an error: charts are then shown without them. */
export const marksIn = (window, signal) =>
  marksOf(window, signal).catch((error) => {
    if (error.name === "AbortError" || error.status === 401) throw error;
    return [];
  });
