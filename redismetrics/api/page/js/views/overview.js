/* All metrics: what each did in the window, as rows or cards, and its rate live. */

import { h, fill, icon, ICONS, bdi } from "../dom.js";
import { change, filters, spell, windowOf } from "../address.js";
import { preference, prefer } from "../preferences.js";
import { whole } from "../format.js";
import { segments } from "../parts/menu.js";
import { bind } from "../keys.js";
import { MetricRow, COLUMNS } from "../parts/metric_row.js";
import { pulse } from "../parts/pulse.js";
import { overview } from "../questions.js";
import { follow } from "../rates.js";
import { compare } from "../sorting.js";

export const title = "Overview";
const TYPES = { counter: "Counters", gauge: "Gauges", histogram: "Histograms" };
const UPWARDS = new Set(["name", "type"]);

export function open(app, route, signal) {
  const rows = new Map(); // name -> MetricRow
  const list = h("div.metrics", { role: "table", "aria-label": "Metrics" });
  const search = h("input", {
    type: "search",
    placeholder: "Filter by name or tag=value",
    "aria-label": "Filter by name, or by tag=value and Enter",
    spellcheck: "false",
    oninput: () => change({ q: search.value }, { replace: true }),
  });
  const head = h("div.metric.head", { role: "row" });
  const types = h("div.chips"),
    chosen = h("div.chips"),
    count = h("span.soft"),
    layout = h("span");
  const strip = pulse(app),
    trouble = h("div");
  let board = null,
    asked = "";

  const seen = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) target.row.comeNear(isIntersecting);
    },
    { rootMargin: "300px" },
  );

  const element = h(
    "div.overview",
    {},
    h("h1.visually-hidden", {}, "All metrics"),
    trouble,
    strip.element,
    h(
      "div.toolbar",
      {},
      h("label.search", {}, icon(ICONS.search), search, h("kbd", {}, "/")),
      types,
      chosen,
      count,
      layout,
    ),
    list,
  );

  follow(app, signal, (rates) => {
    const total = rates.total();
    if (total === null || windowOf(route.query, app.now()).fixed) return;
    const found = rates.all();
    for (const [name, row] of rows) row.goOn(found.get(name) ?? { rate: 0 });
    strip.tell(total);
  });

  const keys = [
    bind("/", "Filter by name", () => search.focus(), "Overview"),
    bind("j", "Next metric", () => step(1), "Overview"),
    bind("k", "Previous metric", () => step(-1), "Overview"),
    ...Object.entries({ n: "name", t: "type", s: "series", r: "rate", l: "last", p: "p95" }).map(
      ([key, column]) =>
        bind(key, `Sort by ${column}; again: the other way`, () => sortBy(column), "Overview"),
    ),
  ];
  search.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      search.value = "";
      change({ q: null }, { replace: true });
      search.blur();
    }
    if (event.key !== "Enter") return;
    if (
      /^(!?[A-Za-z_][\w.:/-]*$|[A-Za-z_][\w.:/-]*=)/.test(search.value) &&
      /[=!]/.test(search.value)
    )
      change({ q: null, tag: [...route.query.getAll("tag"), search.value] });
    else list.querySelector("a.open")?.focus();
  });
  signal.addEventListener("abort", () => {
    seen.disconnect();
    keys.forEach((drop) => drop());
  });

  function step(by) {
    const links = [...list.querySelectorAll("a.open")];
    const at = links.indexOf(document.activeElement);
    links[Math.max(0, Math.min(at + by, links.length - 1))]?.focus();
  }

  function sortBy(column) {
    const { query } = route;
    const same = (query.get("sort") ?? "name") === column;
    change(
      {
        sort: column,
        down: same ? (query.has("down") ? null : "1") : UPWARDS.has(column) ? null : "1",
      },
      { replace: true },
    );
  }

  /** Ask for the overview if the window or a filter changed, or it is time again. */
  async function update(next, { again = false } = {}) {
    route = next;
    const { query } = route;
    if (document.activeElement !== search) search.value = query.get("q") ?? "";
    drawTools(query);
    const window = windowOf(query, app.now(), 60);
    const wanted = JSON.stringify([
      query.get("window"),
      query.get("since"),
      query.get("until"),
      query.getAll("tag"),
    ]);
    if (wanted === asked && !again) {
      arrange();
      return;
    }
    if (wanted !== asked) list.classList.add("waiting");
    asked = wanted;
    try {
      const answer = await overview(
        { ...window, tags: filters(query).map(({ text }) => text) },
        signal,
      );
      if (asked !== wanted) return;
      board = answer;
      fill(trouble);
      strip.show(board, window);
      arrange();
    } catch (error) {
      if (asked === wanted) {
        asked = "";
        app.fail(error, trouble, () => app.changed());
      }
    }
    list.classList.remove("waiting");
  }

  function drawTools(query) {
    const on = query.getAll("type");
    fill(
      types,
      Object.entries(TYPES).map(([type, text]) =>
        h(
          `button.chip.${type}`,
          {
            "aria-pressed": String(on.includes(type)),
            onclick: () =>
              change({
                type: on.includes(type) ? on.filter((each) => each !== type) : [...on, type],
              }),
          },
          h("i"),
          text,
        ),
      ),
    );
    fill(
      chosen,
      filters(query).map(({ text, key, value }) =>
        h(
          "button.chip.filter",
          {
            title: "Drop this filter",
            onclick: () => change({ tag: query.getAll("tag").filter((each) => each !== text) }),
          },
          bdi(value === null ? `without ${key}` : `${key} = ${value}`),
          icon(ICONS.close),
        ),
      ),
    );
    const shape = preference("layout", "rows");
    fill(
      layout,
      segments(
        "Layout",
        [
          ["rows", "Rows"],
          ["cards", "Cards"],
        ],
        shape,
        (value) => {
          prefer("layout", value);
          app.changed();
        },
      ),
    );
    list.className = `metrics ${shape}`;
  }

  /** Sort the metrics that match the filters. Rows are kept, and with them focus and scrolling. */
  function arrange() {
    if (!board) return;
    const { query } = route;
    const text = (query.get("q") ?? "").toLowerCase(),
      types = query.getAll("type");
    const column = query.get("sort") ?? "name",
      down = query.has("down");
    const fits = board.metrics.filter(
      (metric) =>
        metric.name.toLowerCase().includes(text.includes("=") ? "" : text) &&
        (!types.length || types.includes(metric.type)),
    );
    fits.sort((a, b) => compare(a, b, column, down));
    const elements = fits.map((metric) => {
      if (!rows.has(metric.name)) {
        const row = new MetricRow(metric.name);
        rows.set(metric.name, row);
        seen.observe(row.element);
      }
      const row = rows.get(metric.name);
      if (row.board !== board) row.show(metric, board, app.now(), windowOf(query, app.now()).fixed);
      return row.element;
    });
    fill(
      head,
      COLUMNS.map(([key, label]) =>
        h(
          `span.${key}`,
          {
            role: "columnheader",
            "aria-sort": key === column ? (down ? "descending" : "ascending") : null,
          },
          key === "trend"
            ? `Trend, by ${spell(board.interval)}`
            : h(
                "button",
                { onclick: () => sortBy(key) },
                label,
                key === column && h("i.sorted", {}, down ? "↓" : "↑"),
              ),
        ),
      ),
    );
    fill(list, head, elements, !elements.length && nothing(text));
    fill(
      count,
      elements.length === board.metrics.length
        ? `${whole(elements.length)} metrics`
        : `${whole(elements.length)} of ${whole(board.metrics.length)}`,
    );
  }

  const nothing = (text) =>
    board.metrics.length
      ? h(
          "div.empty",
          {},
          h("h2", {}, "No metric matches"),
          h("p", {}, text ? `No name contains “${text}”.` : "None has these types and tags."),
          h(
            "button.button",
            { onclick: () => change({ q: null, type: null, tag: null }) },
            "Show all",
          ),
        )
      : h(
          "div.empty",
          {},
          h("h2", {}, "Nothing is recorded yet"),
          h("p", {}, "Record something, and it appears here:"),
          h(
            "pre",
            {},
            'import redismetrics as rm\nrm.increment("jobs_completed", tags={"tenant": "acme"})',
          ),
        );

  return { element, update };
}
