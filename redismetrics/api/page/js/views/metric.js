/* One metric: its chart, the figures of the window, its tags, and its live samples. */

import { h, fill, refill, icon, ICONS, bdi } from "../dom.js";
import { change, filters, href, spell, windowOf, zoomOut } from "../address.js";
import { ago, span, whole } from "../format.js";
import { Chart } from "../chart/chart.js";
import { controls, choiceOf } from "../parts/controls.js";
import { legend } from "../parts/legend.js";
import { facets, filterChips } from "../parts/facets.js";
import { copyMenu } from "../parts/copy.js";
import { tail } from "../parts/tail.js";
import { breakdown } from "../parts/breakdown.js";
import { heatTable } from "../parts/heat_table.js";
import { marksIn, marksTable } from "../parts/marks.js";
import { modelOf, withoutIncomplete } from "../parts/model.js";
import { runTable } from "../parts/runs.js";
import * as runs from "../runs.js";
import { bind } from "../keys.js";
import { kindOf } from "../kinds.js";
import { figures as figuresOf, heat as heatOf, names, series as seriesOf } from "../questions.js";
import { isDark } from "../chart/colors.js";

export function open(app, route, signal) {
  const { name } = route;
  let metric = null,
    asked = "",
    model = null;
  const head = h("div.metric-head", {}, h("h1", {}, bdi(name)));
  const tools = h("div.toolbar"),
    chosen = h("div.chips"),
    host = h("div.plot"),
    told = h("p.told", { role: "status" }),
    trouble = h("div");
  const chart = new Chart(host, { label: name, onZoom: zoom });
  const table = legend((series) => chart.highlight(series));
  const runFigures = runTable((run) => {
    const tags = JSON.stringify(run?.tags);
    chart.highlight(model?.series.find((each) => JSON.stringify(each.tags) === tags));
  });
  const side = facets(),
    live = tail(app, name, signal),
    cells = heatTable(),
    happened = marksTable(app, chart),
    parts = breakdown(app);
  const element = h(
    "div.single",
    {},
    head,
    trouble,
    h(
      "div.columns-2",
      {},
      h(
        "div.stack",
        {},
        h("section.card", {}, tools, chosen, host, cells.element, told),
        h("section.card.flush", {}, table.element, runFigures.element),
        happened.element,
        live.element,
        parts.element,
      ),
      h("aside.stack", { "aria-label": "Tags" }, side.element),
    ),
  );

  const keys = [
    bind("c", "Compare with the previous window", () => toggle("compare"), "Metric"),
    bind("z", "Zero-based axis", () => toggle("zero"), "Metric"),
    bind("v", "Show live samples", () => toggle("tail"), "Metric"),
    bind("x", "Choose the x axis", () => tools.querySelector(".x-axis button")?.click(), "Metric"),
    bind(
      "u",
      "Back to all metrics",
      () => {
        location.hash = href("overview");
      },
      "Metric",
    ),
  ];
  signal.addEventListener("abort", () => {
    chart.close();
    keys.forEach((drop) => drop());
  });

  const toggle = (key) => change({ [key]: route.query.has(key) ? null : "1" }, { replace: true });

  function zoom(since, until) {
    const isOfRuns = route.query.has("x") && route.query.get("x") !== "time";
    if (since === null) zoomOut(...(isOfRuns ? ["from", "to"] : ["since", "until"]));
    else if (isOfRuns) change({ from: since, to: until }, { zooms: true });
    else change({ since, until: Math.max(until, since + 60), window: null }, { zooms: true });
  }

  async function update(next, { again = false } = {}) {
    route = next;
    const { query } = route;
    live.update(query);
    const window = windowOf(
      query,
      app.now(),
      Math.max(60, Math.min(360, (host.clientWidth || 900) / 3)),
    );
    const wanted = JSON.stringify([query.toString(), app.zone, isDark()]);
    if (wanted === asked && !again) {
      chart.draw();
      return;
    }
    asked = wanted;
    host.classList.add("waiting");
    try {
      metric ??= (await names(signal)).find((each) => each.name === name) ?? false;
      if (!metric) {
        fill(element, unknown(name));
        return;
      }
      const choice = choiceOf(metric, query);
      // A refresh does not touch open menus.
      if (!again || !tools.children.length) {
        drawHead(metric, query, window);
        refill(tools, controls(metric, query, window));
        drawFilters(query);
      }
      const tags = filters(query).map(({ text }) => text);
      const common = { name, ...window, tags, by: query.getAll("by") };
      const values = side.update(metric, query, common, signal);
      parts.update(metric, query, common, values, signal).catch(app.complain);
      table.element.hidden = query.has("x");
      runFigures.element.hidden = !query.has("x");
      if (query.has("x")) {
        const found = await runsIn(common, query);
        if (asked !== wanted) return;
        fill(trouble);
        showRuns(...found, query);
        host.classList.remove("waiting");
        return;
      }
      const [answer, figures, earlier, marks, heat] = await answers(choice, common, query);
      if (asked !== wanted) return;
      fill(trouble);
      const complete = withoutIncomplete(answer, choice, app.now());
      model = {
        ...modelOf(metric, choice, { ...complete, heat }, earlier, window),
        marks,
        zone: app.zone,
        zero: query.has("zero"),
        label: name,
      };
      chart.show(model);
      cells.show(model);
      table.show(metric, choice, model, figures, query);
      happened.show(marks);
      drawTold(answer, window, model.heat && query.has("by"));
    } catch (error) {
      if (asked === wanted) {
        asked = "";
        app.fail(error, trouble, () => app.changed());
      }
    }
    host.classList.remove("waiting");
  }

  /** Request the data of the chart and its table, which have the same groups. */
  function answers(choice, common, query) {
    const { since, until } = common,
      isHeat = choice.value === "heat",
      [order] = choice.aggregations;
    const question = { ...common, aggregations: choice.aggregations, order };
    return Promise.all([
      seriesOf(isHeat ? { ...question, by: [] } : question, signal),
      figuresOf({ ...common, aggregations: choice.figures, order }, signal),
      query.has("compare") &&
        !isHeat &&
        seriesOf({ ...question, since: 2 * since - until, until: since }, signal),
      marksIn(common, signal),
      isHeat && heatOf(common, signal),
    ]);
  }

  /** Request runs, and marks if these have a place on the x axis. */
  const runsIn = (common, query) =>
    Promise.all([
      runs.runsOf({ ...common, x: query.get("x") }, signal),
      query.get("x") === "time" ? marksIn(common, signal) : [],
    ]);

  function showRuns(found, marks, query) {
    const painted = runs.painted(found);
    const [from, to] = ["from", "to"].map((key) => Number.parseFloat(query.get(key)));
    const shown = from < to ? [from, to] : null;
    model = {
      ...runs.modelOf(metric, painted, query.get("x"), app.zone, shown),
      marks,
      zero: query.has("zero"),
      label: name,
    };
    chart.show(model);
    cells.show(model);
    happened.show(marks);
    runFigures.show(metric, painted, query);
    told.textContent = runs.tell(found, query.get("x"), shown);
  }

  function drawHead({ type, unit, help, series, last_seen: seen }, query, window) {
    fill(
      head,
      h(
        "a.icon",
        { href: href("overview"), title: "All metrics (u)", "aria-label": "All metrics" },
        icon(ICONS.left),
      ),
      h(
        "div",
        {},
        h("h1", {}, h(`i.type.${kindOf(type).color}`, { title: type }), bdi(name)),
        h(
          "p.soft",
          {},
          [
            `${type}${unit ? `, ${unit}` : ""}`,
            `${whole(series)} series`,
            `seen ${ago(app.now() - Date.parse(seen) / 1000)}`,
            help,
          ]
            .filter(Boolean)
            .join(" · "),
        ),
      ),
      h(
        "div.tools",
        {},
        copyMenu(app, metric, choiceOf(metric, query), query, window).element,
        h(
          "button.button",
          {
            "aria-pressed": String(query.has("tail")),
            title: "Live samples (v)",
            onclick: () => toggle("tail"),
          },
          icon(ICONS.tail),
          h("span.wide", {}, "Samples"),
        ),
      ),
    );
  }

  function drawFilters(query) {
    fill(chosen, filterChips(query));
    chosen.hidden = !chosen.children.length;
  }

  /** Show the resolution of the chart, and which groups it leaves out. */
  function drawTold({ times, interval, groups, left }, window, isWhole) {
    const parts = [`${whole(times.length)} intervals of ${spell(interval)}`];
    if (isWhole) parts.push("all groups combined");
    if (left) {
      const all = whole(groups.length + left);
      parts.push(`the ${groups.length} largest of ${all} groups; filter to see others`);
    }
    if (window.fixed) parts.push(`${span(window.until - window.since)}; double-click to go back`);
    told.textContent = parts.join(" · ");
  }

  return { element, update };
}

const unknown = (name) =>
  h(
    "div.empty",
    {},
    h("h2", {}, "There is no such metric"),
    h("p", {}, bdi(name)),
    h("a.button", { href: href("overview") }, "All metrics"),
  );
