/* The window, which moves along or is fixed, and the time zone. */

import { h, fill, icon, ICONS } from "../dom.js";
import { WINDOWS, change, windowOf } from "../address.js";
import { moment, span } from "../format.js";
import { prefer } from "../preferences.js";
import { menu, item, segments } from "./menu.js";
import { bind } from "../keys.js";

const NAMES = {
  "15m": "Last 15 minutes",
  "1h": "Last hour",
  "6h": "Last 6 hours",
  "24h": "Last 24 hours",
  "7d": "Last 7 days",
  "30d": "Last 30 days",
};

export function windowPicker(app) {
  const label = h("span", {}, "");
  let current;

  const picker = menu(
    [icon(ICONS.clock), label, icon(ICONS.down)],
    (close) => {
      const choose = (window) => {
        close();
        change({ window, since: null, until: null });
      };
      const pad = (time) => localText(time, app.zone);
      const since = h("input", {
        type: "datetime-local",
        value: pad(current.since),
        step: 60,
        "aria-label": "From",
      });
      const until = h("input", {
        type: "datetime-local",
        value: pad(current.until),
        step: 60,
        "aria-label": "To",
      });
      const own = () => {
        const edges = [since, until].map((input) => timeOf(input.value, app.zone));
        if (edges.every(Number.isFinite) && edges[0] < edges[1]) {
          close();
          change({ since: edges[0], until: edges[1], window: null });
        } else app.note("The start must be before the end");
      };
      return [
        Object.keys(WINDOWS).map((text) =>
          item(NAMES[text], text === current.text, () => choose(text), text),
        ),
        h(
          "div.own",
          {},
          h("label", {}, "From", since),
          h("label", {}, "To", until),
          h("button.button.primary", { onclick: own }, "Show"),
        ),
        h(
          "div.zone",
          {},
          h("span.soft", {}, "Times are"),
          segments(
            "Time zone",
            [
              ["local", zoneName()],
              ["utc", "UTC"],
            ],
            app.zone,
            (zone) => {
              app.zone = zone;
              prefer("zone", zone);
              close();
              app.changed();
            },
          ),
        ),
      ];
    },
    { title: "Window (w)", end: true },
  );
  picker.panel.classList.add("windows");

  const whole = h(
    "button.icon.wide",
    {
      title: "Back to a live window (0)",
      "aria-label": "Back to a live window",
      hidden: true,
      onclick: () => change({ since: null, until: null, window: "1h" }),
    },
    icon(ICONS.close),
  );
  bind("w", "Choose a window", () => picker.button.click(), "Time");

  return {
    element: h("span.group", {}, picker.element, whole),
    update(route) {
      current = windowOf(route.query, app.now());
      whole.hidden = !current.fixed;
      const narrow = innerWidth < 720;
      const fixed = narrow
        ? span(current.until - current.since)
        : `${moment(current.since, app.zone, false)} · ${span(current.until - current.since)}`;
      fill(label, current.fixed ? fixed : narrow ? current.text : NAMES[current.text]);
    },
  };
}

const zoneName = () =>
  Intl.DateTimeFormat().resolvedOptions().timeZone.split("/").at(-1).replaceAll("_", " ");

const localText = (time, zone) =>
  new Date((time - (zone === "utc" ? 0 : new Date(time * 1000).getTimezoneOffset() * 60)) * 1000)
    .toISOString()
    .slice(0, 16);

const timeOf = (text, zone) =>
  Math.round(new Date(text + (zone === "utc" ? "Z" : "")).getTime() / 1000);
