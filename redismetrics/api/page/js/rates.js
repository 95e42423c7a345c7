/* Rates of the last ten seconds, from the summaries of the stream. */

import { stream } from "./stream.js";

const SECONDS = 10;
const LATE = 6; // seconds after the end of an interval in which its summary should have come
export const EVERY = 2; // seconds of a summary

export class Rates {
  /** Forget everything: a missed interval would look like a drop. */
  restart(now) {
    this.metrics = new Map(); // name -> {amounts: [[interval, amount, count]], last}
    this.first = Math.floor(now / EVERY); // the interval in which the stream began is incomplete
    this.newest = this.first;
  }

  constructor(now) {
    this.restart(now);
  }

  /** Add a summary that arrived at *now*. */
  put({ name, type, until, count, sum, last }, now) {
    const end = typeof until === "number" ? until : Date.parse(until) / 1000;
    const interval = Math.round(end / EVERY) - 1;
    // The stream is behind: the intervals not received yet would look like a drop.
    if (now - end > LATE) this.restart(now);
    this.newest = Math.max(this.newest, interval);
    if (!this.metrics.has(name)) this.metrics.set(name, { amounts: [], last });
    const metric = this.metrics.get(name);
    metric.amounts.push([interval, type === "counter" ? sum : count, count]);
    metric.last = last;
  }

  /** Advance to the interval that is complete at *now*, even if nothing was recorded in it. */
  advance(now) {
    this.newest = Math.max(this.newest, Math.floor(now / EVERY) - 2);
    const oldest = this.newest - SECONDS / EVERY;
    for (const { amounts } of this.metrics.values())
      while (amounts.length && amounts[0][0] <= oldest) amounts.shift();
  }

  get whole() {
    return Math.min(this.newest - this.first, SECONDS / EVERY);
  }

  #sum(amounts, place) {
    const from = this.newest - this.whole;
    const total = amounts.reduce((sum, each) => sum + (each[0] > from ? each[place] : 0), 0);
    return total / (this.whole * EVERY);
  }

  /** Return name -> {rate, last}; nothing until one interval is complete. */
  all() {
    if (this.whole <= 0) return new Map();
    const found = [...this.metrics].map(([name, { amounts, last }]) => [
      name,
      { rate: this.#sum(amounts, 1), last },
    ]);
    return new Map(found);
  }

  /** Return the samples per second of all metrics; null until one interval is complete. */
  total() {
    if (this.whole <= 0) return null;
    let total = 0;
    for (const { amounts } of this.metrics.values()) total += this.#sum(amounts, 2);
    return total;
  }
}

/** Call *tell* with the rates after each interval, until *signal* is aborted. */
export function follow(app, signal, tell) {
  const rates = new Rates(app.now());
  const timer = setInterval(() => {
    // Also while paused, so that old data is forgotten.
    rates.advance(app.now());
    if (app.live && !document.hidden && app.isConnected) tell(rates);
  }, 1000);
  signal.addEventListener("abort", () => clearInterval(timer));
  const onEvent = ({ kind, data }) => {
    if (kind === "open" || kind === "cut") {
      rates.restart(app.now());
      app.connected(kind === "open");
    }
    // The server could not send all of an interval, or has no data of it.
    if (kind === "missed" || kind === "gap") rates.restart(app.now());
    if (kind === "summary") rates.put(data, app.now());
  };
  stream({ every: EVERY, by: "name" }, onEvent, signal).catch(app.complain);
}
