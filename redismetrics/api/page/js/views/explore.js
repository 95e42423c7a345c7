/* A PromQL expression, its chart and its values. */

import { h, fill, icon, ICONS, bdi } from "../dom.js";
import { change, spell, windowOf } from "../address.js";
import { number, whole } from "../format.js";
import { Chart } from "../chart/chart.js";
import { marksIn, marksTable } from "../parts/marks.js";
import { modelOf } from "../parts/model.js";
import { examples, instant, range, spellSeries, words } from "../promql.js";
import { suggestions } from "../parts/suggestions.js";

export const title = "Explore";
const CHOICE = { value: "value", style: "line" };
const GAUGE = { type: "gauge", unit: "" };

export function open(app, route, signal) {
  const input = h("textarea", {
    rows: 1,
    spellcheck: "false",
    autocapitalize: "off",
    "aria-label": "PromQL expression",
    placeholder: "sum(rate(requests_total[5m]))",
    oninput: grow,
    onkeydown: (event) => {
      if (proposals.handle(event)) return;
      if (event.key !== "Enter" || event.shiftKey) return;
      event.preventDefault();
      run();
    },
    onblur: () => proposals.close(),
  });
  const proposals = suggestions(input);
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
    h("div.field", {}, icon(ICONS.explore), input, proposals.element),
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
        ? history.back()
        : change({ since, until: Math.max(until, since + 60), window: null }),
  });
  const happened = marksTable(app, chart);
  result.append(happened.element);
  signal.addEventListener("abort", () => chart.close());
  let asked = "";

  words(signal).then(
    (found) => {
      proposals.offer(found);
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
      h("h2", {}, found.length ? "Examples" : "Nothing is recorded yet"),
      h("ul", {}, found.map(example)),
    );
  }

  function run() {
    proposals.close();
    const text = input.value.trim();
    if (text !== (route.query.get("q") ?? "")) change({ q: text });
    else update(route, { again: true });
  }

  function grow() {
    input.style.height = "auto";
    input.style.height = `${input.scrollHeight}px`;
    proposals.suggest();
  }

  async function update(next, { again = false } = {}) {
    route = next;
    const text = route.query.get("q") ?? "";
    const wanted = JSON.stringify([route.query.toString(), app.zone]);
    if (wanted !== asked && document.activeElement !== input) input.value = text;
    grow();
    if (document.activeElement !== input) proposals.close();
    start.hidden = Boolean(text);
    if (!text) {
      asked = wanted;
      result.hidden = true;
      editor.classList.remove("wrong");
      fill(trouble);
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
      // Expressions are evaluated at moments, so that a window can end now.
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
      explain(error);
    }
    host.classList.remove("waiting");
  }

  function show(text, window, answer, now, took) {
    result.hidden = false;
    editor.classList.remove("wrong");
    const warnings = answer.warnings.map((each) => h("p", {}, bdi(each)));
    fill(
      trouble,
      warnings.length > 0 && h("div.banner", { role: "status" }, h("div", {}, warnings)),
    );
    const model = modelOf(GAUGE, CHOICE, answer, null, window);
    for (const series of model.series) series.label = spellSeries(series.tags);
    chart.show({ ...model, marks: answer.marks, zone: app.zone, label: text });
    happened.show(answer.marks);
    const { groups, left, times, interval } = answer;
    told.textContent = [
      left ? `the first ${groups.length} of ${whole(groups.length + left)} series` : "",
      left ? "" : `${whole(groups.length)} series`,
      `${whole(times.length)} intervals of ${spell(interval)}`,
      `${Math.round(took)} ms`,
    ]
      .filter(Boolean)
      .join(" · ");
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

  /** Say what is wrong with the expression below it. */
  function explain(error) {
    if (error.status !== 400 && error.status !== 422) {
      app.fail(error, trouble, () => update(route, { again: true }));
      return;
    }
    result.hidden = true;
    editor.classList.add("wrong");
    const message = error.message.replace(/^invalid parameter "query": /, "");
    fill(trouble, h("div.banner.failure", { role: "alert" }, h("pre.error", {}, bdi(message))));
  }

  return { element, update };
}
