/* All metrics: what each did in the window, as rows or cards, and its rate live. */

import { h, fill, refill, icon, ICONS, bdi } from "../dom.js";
import { change, filters, spell, windowOf } from "../address.js";
import { preference, prefer } from "../preferences.js";
import { whole } from "../format.js";
import { kindOf } from "../kinds.js";
import { filterChips } from "../parts/facets.js";
import { segments } from "../parts/menu.js";
import { bind } from "../keys.js";
import { Board } from "../board.js";
import { LongList } from "../parts/long_list.js";
import { MetricRow, COLUMNS } from "../parts/metric_row.js";
import { pulse } from "../parts/pulse.js";
import { follow } from "../rates.js";
import { compare } from "../sorting.js";

export const title = "Overview";
const TYPES = { counter: "Counters", gauge: "Gauges", histogram: "Histograms" };
const RARE = { summary: "Summaries", info: "Infos", stateset: "State sets" };
const UPWARDS = new Set(["name", "type"]);
const KEPT = 300; // rows that are kept as they are, most of them far from the screen
const SETTLED = 120; // ms without scrolling until figures of what is shown are asked for

export function open(app, route, signal) {
  const rows = new Map(); // name -> MetricRow, of those near the screen and some more
  const head = h("div.metric.head", { role: "row", "aria-rowindex": "1" });
  const body = h("div.lines", { role: "rowgroup" });
  const list = h("div.metrics", { role: "table", "aria-label": "Metrics" }, head, body);
  const none = h("div");
  const search = h("input", {
    type: "search",
    placeholder: "Name or tag=value",
    "aria-label": "Filter by name, or by tag=value and Enter",
    spellcheck: "false",
    oninput: () => change({ q: search.value }, { replace: true }),
  });
  const types = h("div.chips"),
    chosen = h("div.chips"),
    count = h("span.soft"),
    layout = h("span");
  const strip = pulse(app),
    trouble = h("div");
  const board = new Board(signal, arrange);
  const long = new LongList(body, rowOf, look, signal);
  let asked = "",
    arranged = "",
    drawn = null,
    isFixed = false,
    settled = 0;

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
    none,
  );

  follow(app, signal, (rates) => {
    if (windowOf(route.query, app.now()).fixed) return;
    const total = rates.total();
    const found = rates.all();
    // Until the stream reports, figures are those of the window.
    for (const [name, row] of rows)
      row.goOn(total === null ? null : (found.get(name) ?? { rate: 0 }));
    strip.tell(total);
  });

  function rowOf(metric, at) {
    const { name } = metric;
    if (!rows.has(name)) rows.set(name, new MetricRow(name));
    const row = rows.get(name);
    if (row.metric !== metric) row.show(metric, app.now(), isFixed);
    row.element.setAttribute("aria-rowindex", String(at + 2));
    return row.element;
  }

  /** Request figures of the metrics near the screen, once scrolling has ended. */
  function look(near) {
    if (rows.size > KEPT) {
      const names = new Set(near.map(({ name }) => name));
      for (const name of rows.keys()) if (!names.has(name)) rows.delete(name);
    }
    clearTimeout(settled);
    if (board.isKnown && near.some(({ at }) => !at))
      settled = setTimeout(() => board.readSome(inSight()).catch(app.complain), SETTLED);
  }

  const inSight = () => long.items.slice(long.from, long.to).map(({ name }) => name);

  const keys = [
    bind("/", "Filter by name", () => search.focus(), "Overview"),
    bind("j", "Next metric", () => step(1), "Overview"),
    bind("k", "Previous metric", () => step(-1), "Overview"),
    ...Object.entries({ n: "name", t: "type", s: "series", r: "rate", l: "last", p: "p95" }).map(
      ([key, column]) =>
        bind(key, `Sort by ${column}; press again to reverse`, () => sortBy(column), "Overview"),
    ),
  ];
  search.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      search.value = "";
      change({ q: null }, { replace: true });
      search.blur();
    }
    if (event.key !== "Enter") return;
    const text = search.value;
    if (/^(!?[A-Za-z_][\w.:/-]*$|[A-Za-z_][\w.:/-]*=)/.test(text) && /[=!]/.test(text)) {
      search.value = "";
      change({ q: null, tag: [...route.query.getAll("tag"), text] });
    } else focus(0);
  });
  signal.addEventListener("abort", () => {
    clearTimeout(settled);
    keys.forEach((drop) => drop());
  });

  const focus = (at) => long.reveal(at)?.querySelector("a.open").focus();

  /** Move the focus by some metrics. */
  function step(by) {
    const name = document.activeElement.closest?.(".metric")?.dataset.name;
    const at = long.items.findIndex((metric) => metric.name === name);
    focus(Math.max(0, Math.min(at + by, long.items.length - 1)));
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

  /** Request the overview if the window or a filter has changed, or a refresh is due. */
  async function update(next, { again = false } = {}) {
    route = next;
    const { query } = route;
    if (document.activeElement !== search) search.value = query.get("q") ?? "";
    arrange();
    const window = windowOf(query, app.now(), 60);
    const tags = filters(query).map(({ text }) => text);
    const wanted = JSON.stringify([tags, window.text || [window.since, window.until]]);
    if (wanted === asked && !again) return;
    asked = wanted;
    isFixed = window.fixed;
    strip.read();
    try {
      await board.read(tags, window, inSight);
      if (asked === wanted) fill(trouble);
    } catch (error) {
      if (asked !== wanted) return;
      asked = "";
      app.fail(error, trouble, () => app.changed());
    }
  }

  function drawTools(query) {
    const on = query.getAll("type");
    const known = new Set([...board.metrics.values()].map(({ type }) => type));
    const rare = Object.entries(RARE).filter(([type]) => known.has(type) || on.includes(type));
    refill(
      types,
      [...Object.entries(TYPES), ...rare].map(([type, text]) =>
        h(
          `button.chip.${kindOf(type).color}`,
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
    refill(chosen, filterChips(query));
    const shape = preference("layout", "rows");
    refill(
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

  /** Show the metrics that match the filters, sorted. */
  function arrange() {
    const { query } = route;
    drawTools(query);
    const text = (query.get("q") ?? "").toLowerCase(),
      types = query.getAll("type");
    const column = query.get("sort") ?? "name",
      down = query.has("down");
    const part = text.includes("=") ? "" : text;
    const all = [...board.metrics.values()];
    const fits = all.filter(
      ({ name, type }) =>
        name.toLowerCase().includes(part) && (!types.length || types.includes(type)),
    );
    fits.sort((a, b) => compare(a, b, column, down));
    drawHead(column, down);
    list.setAttribute("aria-rowcount", String(fits.length + 1));
    list.hidden = !fits.length;
    const order = JSON.stringify([text, types, query.getAll("tag"), column, down]);
    if (order !== arranged) long.toTop();
    arranged = order;
    long.show(fits);
    refill(none, board.isKnown && !fits.length && nothing(query, all.length));
    if (board.samples && board.samples !== drawn) {
      drawn = board.samples;
      strip.show(drawn, windowOf(query, app.now(), 60));
    }
    const [read, of] = board.progress() ?? [];
    fill(
      count,
      fits.length === all.length
        ? `${whole(all.length)} metrics`
        : `${whole(fits.length)} of ${whole(all.length)}`,
      of && `, figures of ${whole(read)} so far`,
    );
  }

  function drawHead(column, down) {
    const interval = board.samples?.interval;
    refill(
      head,
      COLUMNS.map(([key, label]) =>
        h(
          `span.${key}`,
          {
            role: "columnheader",
            "aria-sort": key === column ? (down ? "descending" : "ascending") : null,
          },
          key === "trend"
            ? `Trend${interval ? `, by ${spell(interval)}` : ""}`
            : [
                h("button", { onclick: () => sortBy(key) }, label),
                key === column && h("i.sorted", {}, down ? "↓" : "↑"),
              ],
        ),
      ),
    );
  }

  function nothing(query, known) {
    const text = query.get("q");
    if (known || query.has("tag"))
      return h(
        "div.empty",
        {},
        h("h2", {}, "No metric matches"),
        h("p", {}, text ? `No name contains “${text}”.` : "No metric has these types and tags."),
        h(
          "button.button",
          { onclick: () => change({ q: null, type: null, tag: null }) },
          "Show all",
        ),
      );
    const namespace = app.info?.namespace;
    return h(
      "div.empty",
      {},
      h("h2", {}, "Nothing has been recorded yet"),
      h("p", {}, "Record something", namespace && [" in the namespace ", bdi(namespace)], ":"),
      h(
        "pre",
        {},
        'import redismetrics as rm\nrm.increment("jobs_completed", tags={"tenant": "acme"})',
      ),
      h("p", {}, "It appears here within seconds. For some data to look at, run:"),
      h("pre", {}, "redismetrics demo --web"),
    );
  }

  return { element, update };
}
