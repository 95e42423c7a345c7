/* What the x axis of a chart is: time, seconds since something began, or numbers such as steps. */

import { roundStep, timeTicks } from "./scales.js";
import { moment, number, offset, quantity, span, tick } from "../format.js";

/** Ticks are at round times of the reader's clock. */
export const timeAxis = (zone) => ({
  over: "time",
  ticks: (since, until, width) => timeTicks(since, until, width, offset(until, zone)),
  tick: (at, step) => tick(at, step, zone),
  text: (at) => moment(at, zone),
});

const SHORT = 10; // seconds that are counted in parts of a second

export const elapsedAxis = {
  over: "elapsed time",
  ticks: (since, until, width) =>
    until - since < SHORT
      ? numberTicks(since, until, width)
      : timeTicks(since, until, width, 0),
  tick: (at) => duration(at),
  text: (at) => `after ${duration(at)}`,
};

export const numberAxis = (name) => ({
  over: name,
  ticks: numberTicks,
  tick: (at) => number(at),
  text: (at) => `${name} ${Number(at.toPrecision(6)).toLocaleString("en-US")}`,
});

const duration = (seconds) =>
  seconds < SHORT && !Number.isInteger(seconds) ? quantity(seconds, "seconds") : span(seconds);

function numberTicks(since, until, width) {
  const step = roundStep(width, "");
  const first = Math.ceil(since / step - 1e-9),
    last = Math.floor(until / step + 1e-9);
  return { step, ticks: Array.from({ length: last - first + 1 }, (_, at) => (first + at) * step) };
}
