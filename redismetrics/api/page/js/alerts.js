/* Alert rules, their alerts, and silences: the APIs of Prometheus and Alertmanager. */

import { ask, post, remove } from "./api.js";

const DAY = 86_400;
const STEP = 300; // seconds between two points of the history

/** Return the alerting rules of all groups: `{name, query, state, labels, alerts, …}`. */
export async function read(signal) {
  const { data } = await ask("v1/rules", { type: "alert" }, signal);
  return data.groups.flatMap(({ name, rules }) => rules.map((rule) => ({ ...rule, group: name })));
}

export const silences = async (signal) =>
  (await ask("v2/silences", {}, signal)).filter(({ status }) => status.state !== "expired");

/** Return name -> [[since, until, state]] of the last 24 hours, from the series `ALERTS`. */
export async function history(now, signal) {
  const end = Math.floor(now);
  const asked = { query: "ALERTS", start: end - DAY, end, step: STEP };
  const { data } = await ask("v1/query_range", asked, signal);
  const found = new Map();
  for (const { metric, values } of data.result) {
    const spans = found.get(metric.alertname) ?? [];
    found.set(metric.alertname, spans);
    for (const [time, value] of values) {
      if (value !== "1") continue;
      const last = spans.at(-1);
      if (last && last[2] === metric.alertstate && time - last[1] <= STEP && time >= last[0])
        last[1] = time;
      else spans.push([time, time, metric.alertstate]);
    }
  }
  return found;
}

/** Silence the alerts with these labels for *seconds*. */
export function silence(labels, seconds, now) {
  const iso = (time) => new Date(time * 1000).toISOString();
  const matchers = Object.entries(labels).map(([name, value]) => ({ name, value }));
  return post("v2/silences", {
    matchers: matchers.map((each) => ({ ...each, isRegex: false, isEqual: true })),
    startsAt: iso(now),
    endsAt: iso(now + seconds),
    createdBy: "web page",
    comment: "Silenced on the web page",
  });
}

export const expire = (id) => remove(`v2/silence/${encodeURIComponent(id)}`);

const keyOf = (labels) => JSON.stringify(Object.entries(labels).sort());

/** Return a function that returns whether the firing alert with these labels is silenced. */
export async function readSilenced(signal) {
  const all = await ask("v2/alerts", {}, signal);
  const silent = all.filter(({ status }) => status.state === "suppressed");
  const keys = new Set(silent.map(({ labels }) => keyOf(labels)));
  return (labels) => keys.has(keyOf(labels));
}

/** Return whether an active silence without regular expressions matches these labels.
 *
 * The server reports this only for firing alerts, but pending ones can be silenced too.
 */
export const isSilencedBy = (silences, labels) =>
  silences.some(
    ({ status, matchers }) =>
      status.state === "active" &&
      matchers.every(
        ({ name, value, isRegex, isEqual = true }) =>
          !isRegex && ((labels[name] ?? "") === value) === isEqual,
      ),
  );
