/* Alerts: those that fire or are pending, their last 24 hours, and silences. */

import { h, fill, refill, icon, ICONS, bdi } from "../dom.js";
import { expire, history, isSilencedBy, read, readSilenced, silence, silences } from "../alerts.js";
import { href } from "../address.js";
import { menu } from "../parts/menu.js";
import { moment, number, span, whole } from "../format.js";

export const title = "Alerts";
const ORDER = { firing: 0, pending: 1, failing: 2, inactive: 3 };
const WORDS = { firing: "Firing", pending: "Pending", inactive: "OK" };
const DAY = 86_400;
const SILENCES = [
  ["1 hour", 3600],
  ["4 hours", 14_400],
  ["1 day", 86_400],
  ["1 week", 604_800],
];
const SHOWN = 20; // alerts of one rule
const LANES = 50; // rules whose history is shown

export function open(app, route, signal) {
  const trouble = h("div");
  const content = h("div.stack", {}, h("p.soft", {}, "…"));
  const element = h(
    "div.stack.alerts",
    {},
    h("h1.visually-hidden", {}, "Alerts"),
    trouble,
    content,
  );

  async function update() {
    // A refresh does not touch open menus.
    if (content.querySelector(":popover-open")) return;
    try {
      const [rules, quiet, past, isSilenced] = await Promise.all([
        read(signal),
        silences(signal),
        history(app.now(), signal),
        readSilenced(signal),
      ]);
      fill(trouble);
      app.firing(rules.filter(({ state }) => state === "firing").length);
      const isQuiet = (labels) => isSilenced(labels) || isSilencedBy(quiet, labels);
      refill(
        content,
        rules.length
          ? [tiles(rules), listed(rules, isQuiet), lanes(rules, past)]
          : h(
              "div.empty",
              {},
              h("h2", {}, "No alert rules"),
              h("p", {}, "A worker evaluates rules in the format of Prometheus:"),
              h("pre", {}, "redismetrics worker --rules rules.yml"),
            ),
        (rules.length > 0 || quiet.length > 0) && silenced(quiet),
      );
    } catch (error) {
      if (error.status === 404) error.message = "Alerts need the extra promql on the server.";
      app.fail(error, trouble, () => app.changed());
    }
  }

  /** Run *work* and show its effect. */
  async function act(work, done) {
    try {
      await work();
      app.note(done);
      await update();
    } catch (error) {
      app.complain(error);
    }
  }

  function listed(rules, isSilenced) {
    const first = (rule) => ORDER[stateOf(rule)];
    const sorted = [...rules].sort((a, b) => first(a) - first(b) || a.name.localeCompare(b.name));
    return h(
      "section.card.flush",
      { "aria-label": "Rules" },
      sorted.map((rule) => one(rule, isSilenced)),
    );
  }

  function one(rule, isSilenced) {
    const { name, query, state, labels, alerts = [], health, lastError } = rule;
    const since = Math.min(...alerts.map(({ activeAt }) => Date.parse(activeAt) / 1000));
    const shownState = stateOf(rule);
    return h(
      `article.rule.${shownState === "failing" ? "warning" : shownState}`,
      {},
      h("i.state", { "aria-hidden": "true" }),
      h(
        "div",
        {},
        h("h2", {}, bdi(name)),
        h("a.query", { href: href("explore", "", new URLSearchParams({ q: query })) }, bdi(query)),
        health === "err" && h("p.failed", {}, "Cannot be evaluated: ", bdi(lastError ?? "")),
      ),
      h(
        "div.labels",
        {},
        Object.entries(labels).map(([key, value]) => h("span.label", {}, bdi(`${key}=${value}`))),
      ),
      h(
        "div.since",
        {},
        h("b", {}, WORDS[shownState] ?? "Failing"),
        alerts.length > 0 && h("small.soft", {}, `for ${span(app.now() - since).split(" ")[0]}`),
      ),
      alerts.length > 0 &&
        h("ul.instances", {}, alerts.slice(0, SHOWN).map(instance(rule, isSilenced))),
      alerts.length > SHOWN && h("p.soft", {}, `and ${whole(alerts.length - SHOWN)} more`),
    );
  }

  const instance = (rule, isSilenced) => (alert) => {
    const labels = Object.entries(alert.labels).filter(
      ([key, value]) => key !== "alertname" && rule.labels[key] !== value,
    );
    const text = alert.annotations.summary ?? alert.annotations.description;
    return h(
      `li.${alert.state}`,
      {},
      h(
        "div.labels",
        {},
        labels.map(([key, value]) => h("span.label", {}, bdi(`${key}=${value}`))),
        h("span", {}, bdi(text ?? (labels.length ? "" : "The result has no labels."))),
      ),
      h("b.value", { title: "Value of the expression" }, number(Number(alert.value))),
      isSilenced(alert.labels)
        ? h("span.label", {}, "silenced")
        : app.info?.writable && silenceButtons(alert.labels),
    );
  };

  /** Silence an alert for an hour with one click; the menu beside it has other times. */
  function silenceButtons(labels) {
    const begin = ([text, seconds]) =>
      act(() => silence(labels, seconds, app.now()), `Silenced for ${text}`);
    const [first, ...others] = SILENCES;
    const line = (close) => (each) =>
      h(
        "button.item",
        {
          onclick: () => {
            close();
            begin(each);
          },
        },
        `For ${each[0]}`,
      );
    const longer = menu(icon(ICONS.down), (close) => others.map(line(close)), {
      kind: "button.icon",
      end: true,
      title: "Silence for longer",
    });
    longer.button.setAttribute("aria-label", "For longer");
    return h(
      "span.group",
      {},
      h(
        "button.button",
        { title: `Silence this alert for ${first[0]}`, onclick: () => begin(first) },
        "Silence",
      ),
      longer.element,
    );
  }

  /** The last day of each rule; those that were pending or fired come first. */
  function lanes(rules, past) {
    const from = app.now() - DAY;
    const names = [...new Set(rules.map(({ name }) => name))];
    names.sort((a, b) => past.has(b) - past.has(a) || a.localeCompare(b));
    const left = names.length - LANES;
    const lane = ([since, until, state]) =>
      h(`i.${state}`, {
        title: `${WORDS[state]} ${moment(since, app.zone, false)}, for ${span(until - since)}`,
        style: {
          "--from": Math.max(0, (since - from) / DAY),
          "--size": Math.max(until - Math.max(since, from), 120) / DAY,
        },
      });
    return h(
      "section.card",
      {},
      h("header.section", {}, h("h2", {}, "Last 24 hours")),
      h(
        "div.history",
        {},
        names.slice(0, LANES).map((name) => {
          const spans = past.get(name) ?? [];
          const count = spans.filter(([, , state]) => state === "firing").length;
          const label = `${name}: fired ${count} times`;
          return [
            h("span", {}, bdi(name)),
            h("div.lane", { role: "img", "aria-label": label }, spans.map(lane)),
          ];
        }),
        h("span"),
        h(
          "div.hours",
          {},
          [24, 18, 12, 6, 0].map((hours) => h("small.soft", {}, hours ? `${hours} h ago` : "now")),
        ),
      ),
      left > 0 && h("p.soft", {}, `and ${whole(left)} more without alerts`),
    );
  }

  const silenced = (all) =>
    h(
      "section.card",
      {},
      h("header.section", {}, h("h2", {}, "Silences")),
      all.length
        ? h("ul", {}, all.map(oneSilence))
        : h("p.soft", {}, app.info?.writable ? "None." : "None. This server is read-only."),
    );

  function oneSilence({ id, matchers, comment, createdBy, endsAt, status }) {
    const left = Date.parse(endsAt) / 1000 - app.now();
    const text = ({ name, value, isRegex, isEqual = true }) =>
      `${name}${isRegex ? (isEqual ? "=~" : "!~") : isEqual ? "=" : "!="}${value}`;
    return h(
      "li.silence",
      {},
      h(
        "span.labels",
        {},
        matchers.map((each) => h("span.label", {}, bdi(text(each)))),
      ),
      h("span", {}, bdi(comment)),
      h("span.soft", {}, bdi(createdBy), `, ${status.state}, ${span(left)} left`),
      app.info?.writable &&
        h(
          "button.button",
          { onclick: () => act(() => expire(id), "The silence has ended") },
          "End",
        ),
    );
  }

  return { element, update };
}

/** Return the state of a rule; one that cannot be evaluated is not OK. */
function stateOf({ state, health }) {
  if (state in ORDER && state !== "inactive") return state;
  return health === "err" ? "failing" : "inactive";
}

const tiles = (rules) =>
  h(
    "div.tiles",
    {},
    Object.entries(WORDS).map(([state, word]) =>
      h(
        `div.tile.${state}`,
        {},
        h("b", {}, String(rules.filter((rule) => stateOf(rule) === state).length)),
        h("span", {}, word),
      ),
    ),
  );
