/* The newest samples of a metric, live. Those that come too fast are only counted. */

import { h, fill, bdi } from "../dom.js";
import { clock, quantity, whole } from "../format.js";
import { filters } from "../address.js";
import { stream } from "../stream.js";

const SHOWN = 40,
  DRAWN_EVERY = 200;

export function tail(app, name, left) {
  const body = h("tbody"),
    state = h("span.soft");
  const element = h(
    "section.card.flush.tail",
    { hidden: true },
    h("header", {}, h("h2", {}, "Live samples"), state),
    h(
      "div.scroll",
      { tabindex: "0", role: "group", "aria-label": "Live samples" },
      h("table", {}, h("caption.visually-hidden", {}, "The newest samples first"), body),
    ),
  );
  let stop = null,
    asked = "",
    waiting = [],
    heard = 0,
    isEmpty = true;

  function update(query) {
    const wanted = query.has("tail") ? JSON.stringify(query.getAll("tag")) : "";
    if (wanted === asked) return;
    asked = wanted;
    stop?.abort();
    element.hidden = !wanted;
    if (!wanted) return;
    stop = new AbortController();
    heard = 0;
    isEmpty = true;
    fill(body, h("tr", {}, h("td.soft", {}, "No samples yet. New ones appear within a second.")));
    const signal = AbortSignal.any([stop.signal, left]);
    const timer = setInterval(draw, DRAWN_EVERY);
    signal.addEventListener("abort", () => clearInterval(timer));
    const tags = filters(query).map(({ text }) => text);
    stream({ name, tags }, take, signal).catch((error) => {
      state.textContent = error.message;
      app.complain(error);
    });
  }

  function take({ kind, data }) {
    if (!app.live) return;
    if (kind === "sample") {
      heard += data.count;
      waiting.push(data);
      if (waiting.length > SHOWN) waiting.shift();
    } else if (kind === "gap" || kind === "missed" || kind === "cut")
      waiting.push({ gap: kind, ...data });
  }

  function draw() {
    if (!waiting.length || document.hidden) return;
    if (isEmpty) fill(body);
    isEmpty = false;
    body.prepend(...waiting.reverse().map(row));
    waiting = [];
    while (body.children.length > SHOWN) body.lastChild.remove();
    state.textContent = `${whole(heard)} since this list was opened`;
  }

  function row({ gap, count, value, tags, metadata, timestamp }) {
    if (gap)
      return h(
        "tr.gap",
        {},
        h(
          "td",
          { colspan: 4 },
          gap === "missed"
            ? `${whole(count)} samples came too fast for this page`
            : "The connection was lost here",
        ),
      );
    const time = typeof timestamp === "number" ? timestamp : Date.parse(timestamp) / 1000;
    return h(
      "tr",
      {},
      h("td.mono.soft", {}, clock(time, app.zone)),
      h(
        "td.number",
        {},
        h("b", {}, quantity(value)),
        count > 1 && h("small.soft", {}, ` × ${count}`),
      ),
      h(
        "td.tags",
        {},
        Object.entries(tags).map(([key, text]) =>
          h("span", {}, h("small.soft", {}, bdi(key)), bdi(text)),
        ),
      ),
      h(
        "td.mono.soft",
        {},
        Object.keys(metadata ?? {}).length ? bdi(JSON.stringify(metadata)) : "",
      ),
    );
  }

  return { element, update };
}
