/* The store: what the doctor finds, what is kept at which resolution, who records, and which tags
   cost most. */

import { h, fill, refill, bdi } from "../dom.js";
import { href } from "../address.js";
import { ago, number, plural, quantity, span, whole } from "../format.js";
import { cardinality, doctor, stats } from "../questions.js";

export const title = "Store";
const LEVELS = [
  ["log", "Log", "not sealed yet"],
  ["raw", "Samples", "exact"],
  ["minute", "Minutes", ""],
  ["hour", "Hours", ""],
  ["day", "Days", ""],
];
const STATES = { failure: "Failure", warning: "Warning", ok: "OK" };
const SHOWN = 20; // metrics and writers
const HOUR = 3600;
const EXAMINED = 55_000; // ms until the doctor is asked again, who tries scripts

export function open(app, route, signal) {
  const trouble = h("div");
  const tiles = h("div");
  const [found, kept, largest, recording] = Array.from({ length: 4 }, () => h("div"));
  const element = h(
    "div.stack.store",
    {},
    h("h1.visually-hidden", {}, "Store"),
    trouble,
    tiles,
    h(
      "div.columns-2.even",
      {},
      h("div.stack", {}, found, recording),
      h("div.stack", {}, kept, largest),
    ),
  );
  let examined = 0;

  /** Show the requested data in *place*, or why there is none. */
  async function put(place, title, question, draw) {
    try {
      refill(place, draw(await question));
    } catch (error) {
      if (error.name === "AbortError" || error.status === 401 || error.status === 0) throw error;
      const reason = h("p", {}, bdi(error.message));
      fill(place, h("section.card", {}, h("header.section", {}, h("h2", {}, title)), reason));
    }
  }

  async function update() {
    const parts = [
      stats(signal).then((storage) => {
        fill(tiles, h("div.stack", {}, figures(storage), unreadable(storage)));
        fill(kept, levels(storage));
        fill(recording, writers(storage, app.now()));
      }),
    ];
    if (Date.now() - examined >= EXAMINED) {
      examined = Date.now();
      parts.push(put(found, "Doctor", doctor(signal), findings));
      parts.push(put(largest, "Cardinality", cardinality(SHOWN, signal), largestMetrics));
    }
    try {
      await Promise.all(parts);
      fill(trouble);
    } catch (error) {
      examined = 0;
      app.fail(error, trouble, () => app.changed());
    }
  }

  return { element, update };
}

const lostOf = ({ metrics_dropped: dropped }) => dropped.never_sealed + dropped.late;

function figures(storage) {
  const { worker_lag_seconds: lag, workers } = storage;
  const lost = lostOf(storage);
  const tile = (name, value, more, kind = "") =>
    h(
      "div.tile",
      { class: kind || "" },
      h("span", {}, name),
      h("b", {}, value),
      h("small.soft", {}, more),
    );
  return h(
    "div.tiles",
    {},
    tile("Samples kept", number(storage.total_metrics), `${number(storage.metrics_stored)} ever`),
    tile("Series", number(storage.series), `of ${plural(storage.names, "metric")}`),
    tile(
      "Samples lost",
      whole(lost),
      lost ? "unsealed or late" : "since the start",
      lost && "failure",
    ),
    tile("Worker lag", span(lag), plural(workers, "worker"), (lag > 60 || !workers) && "warning"),
    tile("Writers", whole(storage.writers), "known processes"),
    tile("Memory", quantity(storage.memory_bytes, "bytes"), "whole server"),
  );
}

/** Metrics that cannot be read, such as those of a newer version. */
function unreadable({ skipped }) {
  const line = ([name, reason]) =>
    h("p", {}, h("strong", {}, bdi(name)), " cannot be read: ", bdi(String(reason)));
  const all = Object.entries(skipped ?? {});
  return all.length > 0 && h("div.banner", { role: "status" }, h("div", {}, all.map(line)));
}

/** Return a text with the parts between backticks as code. */
const withCode = (text) =>
  text.split("`").map((part, at) => (at % 2 ? h("code", {}, bdi(part)) : bdi(part)));

/** The findings of the doctor, worst first, with advice. */
function findings(all) {
  const order = Object.keys(STATES);
  const sorted = [...all].sort((a, b) => order.indexOf(a.status) - order.indexOf(b.status));
  const bad = all.filter(({ status }) => status !== "ok").length;
  const summary = bad ? `${bad} of ${plural(all.length, "check")} not passed` : "All checks passed";
  return h(
    "section.card.flush",
    {},
    h(
      "header.section",
      {},
      h("h2", {}, "Doctor"),
      h("small.soft", {}, summary),
    ),
    sorted.map(({ check, status, found, advice }) =>
      h(
        `div.finding.${status}`,
        {},
        h("i.state", { role: "img", "aria-label": STATES[status] }),
        h("b", {}, check),
        h("div", {}, h("p", {}, bdi(found)), advice && h("p.advice", {}, withCode(advice))),
      ),
    ),
  );
}

function levels({ bytes, retention }) {
  const total = Object.values(bytes).reduce((sum, each) => sum + each, 0);
  const dye = (place) => ({ "--dye": `var(--c${place + 1})` });
  return h(
    "section.card",
    {},
    h("header.section", {}, h("h2", {}, "Storage"), h("small.soft", {}, quantity(total, "bytes"))),
    h(
      "div.stackbar",
      { "aria-hidden": "true" },
      LEVELS.map(([key], place) =>
        h("i", { style: { "--size": bytes[key] / (total || 1), ...dye(place) } }),
      ),
    ),
    h(
      "table",
      {},
      h("caption.visually-hidden", {}, "Bytes and retention of each resolution"),
      h(
        "tbody",
        {},
        LEVELS.map(([key, name, more], place) =>
          h(
            "tr",
            {},
            h(
              "th",
              { scope: "row" },
              h("i.swatch", { style: dye(place) }),
              name,
              more && h("small.soft", {}, ` ${more}`),
            ),
            h("td.number", {}, retention[key] ? `for ${span(retention[key] * HOUR)}` : ""),
            h("td.number", {}, quantity(bytes[key], "bytes")),
          ),
        ),
      ),
    ),
  );
}

const writers = ({ writing }, now) =>
  listed(
    "Writers",
    "newest first",
    ["Process", "Batches", "Seen"],
    [...writing]
      .sort((a, b) => b.last_seen.localeCompare(a.last_seen))
      .map(({ writer, batches, last_seen: seen }) => [
        h("span.mono", {}, bdi(writer)),
        whole(batches),
        ago(now - Date.parse(seen) / 1000),
      ]),
  );

const largestMetrics = (metrics) =>
  listed(
    "Cardinality",
    "most series first",
    ["Metric", "Series", "Values of each tag"],
    metrics.map(({ name, series, overflow, tags }) => [
      h("a", { href: href("metric", name) }, bdi(name)),
      whole(series),
      h(
        "span.labels",
        {},
        overflow &&
          h("span.label.over", { title: "More series were merged into one" }, "limit reached"),
        Object.entries(tags).map(([key, count]) =>
          h("span.label", {}, bdi(key), ` ${whole(count)}`),
        ),
      ),
    ]),
    (place) => place === 1,
  );

function listed(title, more, heads, rows, isNumber = (place) => place > 0) {
  const cell = (each, place) =>
    place ? h(isNumber(place) ? "td.number" : "td", {}, each) : h("th", { scope: "row" }, each);
  const head = (each, place) => h(isNumber(place) ? "th.number" : "th", { scope: "col" }, each);
  return h(
    "section.card.flush",
    {},
    h("header.section", {}, h("h2", {}, title), h("small.soft", {}, more)),
    h(
      "div.scroll",
      {},
      h(
        "table",
        {},
        h("thead", {}, h("tr", {}, heads.map(head))),
        h(
          "tbody",
          {},
          rows.slice(0, SHOWN).map((each) => h("tr", {}, each.map(cell))),
        ),
      ),
    ),
    rows.length > SHOWN && h("p.soft.pad", {}, `and ${whole(rows.length - SHOWN)} more`),
  );
}
