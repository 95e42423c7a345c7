/* Round numbers for axes, and the way from values to pixels. Nothing here draws. */

const ROUND = [1, 2, 2.5, 5, 10];
const TIME_STEPS = [
  1, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800,
  604800, 2592000,
];

/** Return a round step: powers of two for bytes, and clock units for times. */
export function roundStep(rough, unit) {
  const base = unit === "bytes" ? 1024 : unit === "seconds" && rough > 30 ? 60 : 10;
  const size =
    base === 10
      ? 10 ** Math.floor(Math.log10(rough))
      : base ** Math.floor(Math.log(rough) / Math.log(base));
  const part = rough / size;
  if (base === 10) return size * ROUND.find((round) => round >= part - 1e-9);
  return (
    size *
    ([1, 2, 5, 10, 20, 50, 100, 200, 500, 1024].find((round) => round >= part - 1e-9) ?? base)
  );
}

/** The axis of values from *low* to *high*: `{low, high, ticks}` with about *many* ticks. */
export function linear(low, high, many, unit, zero) {
  if (!(high > -Infinity)) [low, high] = [0, 1];
  if (zero || (low >= 0 && low < high * 0.6)) low = Math.min(low, 0);
  if (low === high)
    [low, high] = low === 0 ? [0, 1] : [low - Math.abs(low) * 0.1, high + Math.abs(high) * 0.1];
  const step = roundStep((high - low) / many, unit);
  const first = Math.floor(low / step + 1e-9),
    last = Math.ceil(high / step - 1e-9);
  return {
    low: first * step,
    high: last * step,
    ticks: Array.from({ length: last - first + 1 }, (_, at) => (first + at) * step),
  };
}

/** Return round times for an axis, *shift* seconds ahead of UTC, at least *width* s apart. */
export function timeTicks(since, until, width, shift) {
  const step = TIME_STEPS.find((each) => each >= width) ?? TIME_STEPS.at(-1);
  const first = Math.ceil((since + shift) / step) * step - shift;
  const ticks = [];
  for (let at = first; at <= until; at += step) ticks.push(at);
  return { step, ticks };
}

export function toPixels(axis, top, bottom) {
  if (axis.place) return (value) => bottom - axis.place(value) * (bottom - top);
  const size = axis.high - axis.low;
  return (value) => bottom - ((value - axis.low) / size) * (bottom - top);
}

/** The minimum and maximum of columns, ignoring gaps; stacked columns are added up first. */
export function reach(columns, stacked = false) {
  let low = Infinity,
    high = -Infinity;
  const count = columns[0]?.length ?? 0;
  for (let at = 0; stacked && at < count; at++) {
    let sum = 0;
    for (const column of columns) sum += column[at] > 0 ? column[at] : 0;
    high = Math.max(high, sum);
    low = 0;
  }
  if (stacked) return [low, high];
  for (const column of columns) {
    for (const value of column) {
      if (value < low) low = value; // comparisons with NaN are false
      if (value > high) high = value;
    }
  }
  return [low, high];
}
