/* The store: what is kept at which resolution, who records, and the largest metrics. */

import { h, fill, bdi } from "../dom.js";
import { href } from "../address.js";
import { ago, number, plural, quantity, span, whole } from "../format.js";
import { names, stats } from "../questions.js";

export const title = "Store";
const LEVELS = [
  ["log", "Log", "not sealed yet"],
  ["raw", "Samples", "exact"],
  ["minute", "Minutes", ""],
  ["hour", "Hours", ""],
  ["day", "Days", ""],
];
const SHOWN = 20; // metrics and writers
const HOUR = 3600;

export function open(app, route, signal) {
  const trouble = h("div");
  const content = h("div.stack", {}, h("p.soft", {}, "…"));
  const element = h("div.stack.store", {}, h("h1.visually-hidden", {}, "Store"), trouble, content);

  async function update() {
    try {
      const [storage, metrics] = await Promise.all([stats(signal), names(signal)]);
      fill(trouble);
      fill(
        content,
        figures(storage),
        advice(storage),
        h(
          "div.columns-2.even",
          {},
          h("div.stack", {}, levels(storage), writers(storage, app.now())),
          h("div.stack", {}, largest(metrics)),
        ),
      );
    } catch (error) {
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
      lost ? "not sealed, or late" : "since the start",
      lost && "failure",
    ),
    tile("Worker lag", span(lag), plural(workers, "worker"), (lag > 60 || !workers) && "warning"),
    tile("Writers", whole(storage.writers), "known processes"),
    tile("Memory", quantity(storage.memory_bytes, "bytes"), "of the whole server"),
  );
}

/** Say what to do about what these figures show; `redismetrics doctor` examines more. */
function advice(storage) {
  const { worker_lag_seconds: lag, workers, skipped } = storage;
  const lost = lostOf(storage);
  const found = [];
  if (!workers) found.push(["No worker runs.", "Start one with: redismetrics worker"]);
  if (lag > 60)
    found.push([`Workers are ${span(lag)} behind.`, "Start another worker, or give it more CPU."]);
  if (lost)
    found.push([`${whole(lost)} samples were lost.`, "Run redismetrics doctor to see the reason."]);
  for (const [name, reason] of Object.entries(skipped ?? {}))
    found.push([`${name} cannot be read.`, String(reason)]);
  const one = ([what, todo]) => h("p", {}, h("strong", {}, bdi(what)), " ", bdi(todo));
  return found.length > 0 && h("div.banner", { role: "status" }, h("div", {}, found.map(one)));
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
    "the newest first",
    ["Process", "Batches", "Seen"],
    [...writing]
      .sort((a, b) => b.last_seen.localeCompare(a.last_seen))
      .map(({ writer, batches, last_seen: seen }) => [
        h("span.mono", {}, bdi(writer)),
        whole(batches),
        ago(now - Date.parse(seen) / 1000),
      ]),
  );

const largest = (metrics) =>
  listed(
    "Cardinality",
    "the most series first",
    ["Metric", "Type", "Series"],
    [...metrics]
      .sort((a, b) => b.series - a.series)
      .map(({ name, type, series }) => [
        h("a", { href: href("metric", name) }, bdi(name)),
        type,
        whole(series),
      ]),
  );

function listed(title, more, heads, rows) {
  const cell = (each, place) => h(place ? "td.number" : "th", { scope: !place && "row" }, each);
  const head = (each, place) => h(place ? "th.number" : "th", { scope: "col" }, each);
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
