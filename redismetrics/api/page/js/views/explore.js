/* A PromQL expression, its chart and its values. */

import { h, fill, icon, ICONS, bdi } from "../dom.js";
import { change, spell, windowOf, zoomOut } from "../address.js";
import { number, whole } from "../format.js";
import { Chart } from "../chart/chart.js";
import { isDark } from "../chart/colors.js";
import { marksIn, marksTable } from "../parts/marks.js";
import { modelOf } from "../parts/model.js";
import {
  examples,
  instant,
  labelValues,
  placeOf,
  range,
  spellSeries,
  words,
} from "../promql.js";
import { expressionField } from "../parts/expression_field.js";
import { historyMenu, remember } from "../parts/history.js";

export const title = "Explore";
const CHOICE = { value: "value", style: "line" };
const GAUGE = { type: "gauge", unit: "" };

export function open(app, route, signal) {
  const field = expressionField(run, (label, metric) => labelValues(label, metric, signal));
  const host = h("div.plot");
  const told = h("p.told", { role: "status" });
  const trouble = h("div");
  const table = h("div.scroll");
  const result = h(
    "div.stack",
    { hidden: true },
    h("section.card", {}, host, told),
    h("section.card.flush", {}, table),
  );
  const start = h("section.card.start", { hidden: true });
  const editor = h(
    "section.card.editor",
    {},
    h("div.field", {}, icon(ICONS.explore), field.element),
    historyMenu((text) => change({ q: text })),
    h("button.button.primary", { onclick: run }, "Run"),
  );
  const element = h(
    "div.explore",
    {},
    h("h1.visually-hidden", {}, "Explore"),
    editor,
    trouble,
    result,
    start,
  );
  const chart = new Chart(host, {
    label: "Result",
    onZoom: (since, until) =>
      since === null
        ? zoomOut("since", "until")
        : change({ since, until: Math.max(until, since + 60), window: null }, { zooms: true }),
  });
  const happened = marksTable(app, chart);
  result.append(happened.element);
  signal.addEventListener("abort", () => chart.close());
  let asked = "",
    shown = null;

  words(signal).then(
    (found) => {
      field.offer(found);
      drawStart(examples(found));
    },
    (error) => {
      if (error.status === 404) app.note("PromQL needs the extra promql on the server.");
      else app.complain(error);
    },
  );

  function drawStart(found) {
    const example = ([text, what]) =>
      h(
        "li",
        {},
        h(
          "button",
          { onclick: () => change({ q: text }) },
          h("code", {}, text),
          h("span.soft", {}, what),
        ),
      );
    fill(
      start,
      h("h2", {}, found.length ? "Examples" : "Nothing has been recorded yet"),
      h("ul", {}, found.map(example)),
    );
  }

  function run() {
    field.close();
    const text = field.read().trim();
    field.write(text);
    if (text !== (route.query.get("q") ?? "")) change({ q: text });
    else update(route, { again: true });
  }

  async function update(next, { again = false } = {}) {
    route = next;
    const text = route.query.get("q") ?? "";
    const wanted = JSON.stringify([route.query.toString(), app.zone, isDark()]);
    // The text being typed stays until the address has another expression.
    if (text !== shown) field.write(text);
    shown = text;
    start.hidden = Boolean(text);
    if (!text) {
      asked = wanted;
      result.hidden = true;
      explain(null);
      return;
    }
    if (wanted === asked && !again) {
      chart.draw();
      return;
    }
    asked = wanted;
    host.classList.add("waiting");
    try {
      const window = { ...windowOf(route.query, app.now(), 240) };
      // Expressions are evaluated at instants, so a window can end now.
      if (!window.fixed) {
        const late = window.until - Math.floor(app.now());
        window.until -= late;
        window.since -= late;
      }
      const began = performance.now();
      const [answer, now, marks] = await Promise.all([
        range(text, window, signal),
        instant(text, window.until, signal),
        marksIn(window, signal),
      ]);
      if (asked !== wanted) return;
      show(text, window, { ...answer, marks }, now, performance.now() - began);
    } catch (error) {
      if (asked !== wanted || error.name === "AbortError") return;
      asked = "";
      explain(error, text);
    }
    host.classList.remove("waiting");
  }

  function show(text, window, answer, now, took) {
    result.hidden = false;
    explain(null);
    remember(text);
    const warnings = answer.warnings.map((each) => h("p", {}, bdi(each)));
    fill(
      trouble,
      warnings.length > 0 && h("div.banner", { role: "status" }, h("div", {}, warnings)),
    );
    const model = modelOf(GAUGE, CHOICE, answer, null, window);
    for (const series of model.series) series.label = spellSeries(series.tags);
    chart.show({ ...model, marks: answer.marks, zone: app.zone, label: text });
    happened.show(answer.marks);
    const { groups, left, isCut, times, interval } = answer;
    const all = `${isCut ? "more than " : ""}${whole(groups.length + left)} series`;
    told.textContent = [
      left ? `the first ${groups.length} of ${all}` : all,
      `${whole(times.length)} intervals of ${spell(interval)}`,
      `${Math.round(took)} ms`,
    ].join(" · ");
    fill(table, values(model, now));
  }

  const values = (model, now) =>
    h(
      "table",
      {},
      h("caption.visually-hidden", {}, "The last value of each series"),
      h("thead", {}, h("tr", {}, h("th", {}, "Series"), h("th.number", {}, "Last"))),
      h("tbody", {}, model.series.map(row(now))),
    );

  const row = (now) => (series) => {
    const value = now.get(JSON.stringify(series.tags));
    return h(
      "tr",
      {
        onpointerenter: () => chart.highlight(series),
        onpointerleave: () => chart.highlight(null),
      },
      h(
        "th.series",
        { scope: "row" },
        h("i.swatch", { style: { "--dye": series.color } }),
        bdi(series.label),
      ),
      h(
        "td.number",
        { title: value },
        value === undefined ? "–" : number(Number(value.replace("Inf", "Infinity"))),
      ),
    );
  };

  /** Mark an error in the expression, and show its message below; null: no error. */
  function explain(error, text) {
    const isOfExpression = error?.status === 400 || error?.status === 422;
    editor.classList.toggle("wrong", isOfExpression);
    if (!error) {
      field.mark(null);
      fill(trouble);
      return;
    }
    if (!isOfExpression) {
      app.fail(error, trouble, () => update(route, { again: true }));
      return;
    }
    result.hidden = true;
    const message = error.message.replace(/^invalid parameter "query": /, "");
    // Somebody who has kept typing sees only the message.
    if (field.read() === text) field.mark(placeOf(message, text));
    fill(
      trouble,
      h(
        "div.banner.failure",
        { role: "alert", id: "expression-error" },
        h("pre.error", {}, bdi(message)),
      ),
    );
  }

  return { element, update };
}
