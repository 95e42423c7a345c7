/* A heat map: samples by interval and bucket, darker (on dark: lighter) where there are more. */

import { isDark } from "./colors.js";

// From few to many. Lightness alone shows the order, for every kind of colour vision.
const RAMPS = {
  light: [
    [226, 230, 252],
    [173, 185, 247],
    [94, 116, 235],
    [56, 60, 190],
    [38, 18, 98],
  ],
  dark: [
    [38, 43, 84],
    [72, 66, 160],
    [139, 82, 178],
    [232, 124, 110],
    [254, 232, 130],
  ],
};
const SHADES = 255;

/** The shade of a count, by its square root, so that rare values show beside frequent ones. */
const shade = (count, most) => Math.max(1, Math.round(Math.sqrt(count / most) * SHADES));

function mix(part) {
  const stops = RAMPS[isDark() ? "dark" : "light"];
  const place = part * (stops.length - 1),
    first = Math.min(Math.floor(place), stops.length - 2);
  return stops[first].map((value, channel) =>
    Math.round(value + (stops[first + 1][channel] - value) * (place - first)),
  );
}

/** Return 256 colours as 32-bit words of an ImageData. */
const ramp = () =>
  Uint32Array.from({ length: SHADES + 1 }, (_, at) => {
    const [red, green, blue] = mix(at / SHADES);
    return (255 << 24) | (blue << 16) | (green << 8) | red;
  });

export const mostOf = ({ counts }) =>
  counts.reduce((most, column) => column.reduce((a, b) => Math.max(a, b), most), 0);

/** Return `[{color, count}]` for a legend: each colour with its count. */
export function steps(heat) {
  const most = mostOf(heat);
  const counts = [0, 1, 2, 3, 4].map((at) => Math.max(1, Math.round(most * (at / 4) ** 2)));
  return [...new Set(counts)].map((count) => ({
    count,
    color: `rgb(${mix(shade(count, most) / SHADES).join(" ")})`,
  }));
}

/** Draw a heat map with one pixel per cell, scaled up by the canvas, which is fast. */
export function drawHeat(context, { x, left, right, top, bottom }, heat) {
  const { counts, edges } = heat;
  const columns = counts.length,
    rows = edges.length - 1;
  if (!columns || rows < 1) return;
  const most = mostOf(heat),
    colors = ramp();
  const image = new ImageData(columns, rows);
  const cells = new Uint32Array(image.data.buffer);
  for (let at = 0; at < columns; at++)
    for (let row = 0; row < rows; row++) {
      const count = counts[at][row];
      if (count > 0) cells[(rows - 1 - row) * columns + at] = colors[shade(count, most)];
    }
  const sheet = new OffscreenCanvas(columns, rows);
  sheet.getContext("2d").putImageData(image, 0, 0);
  const width = columns > 1 ? x(1) - x(0) : right - left;
  context.imageSmoothingEnabled = false;
  context.drawImage(sheet, x(0) - width / 2, top, columns * width, bottom - top);
}

/** Return the bucket that contains a value. */
function rowOf(edges, value) {
  const above = edges.findIndex((edge) => edge > value);
  return Math.max(0, Math.min((above < 0 ? edges.length : above) - 1, edges.length - 2));
}

/** The axis of a heat map: all buckets have the same height. */
export function bucketAxis(edges, many) {
  const [low, high] = [edges[0], edges.at(-1)],
    rows = edges.length - 1;
  const place = (value) => {
    const row = rowOf(edges, value);
    const [from, to] = [edges[row], edges[row + 1]];
    const part =
      from > 0
        ? Math.log(Math.max(value, from) / from) / Math.log(to / from)
        : (value - from) / (to - from);
    return (row + Math.max(0, Math.min(part, 1))) / rows;
  };
  return { low, high, place, ticks: ticksOf(edges, many) };
}

function ticksOf(edges, many) {
  const [low, high] = [edges[0], edges.at(-1)];
  if (low < 0) return spread(edges, many);
  const least = low || edges[1],
    decades = Math.log10(high / least);
  const rounds = decades < many / 3 ? [1, 2, 5] : decades < many / 2 ? [1, 3] : [1];
  const jump = Math.max(1, Math.ceil(decades / many));
  const found = low ? [] : [0];
  for (let power = Math.floor(Math.log10(least)); 10 ** power <= high; power += jump)
    for (const round of rounds) {
      const value = round * 10 ** power;
      if (value >= least && value <= high) found.push(value);
    }
  return found.length > 1 ? found : spread(edges, 4);
}

/** Return about *many* of the values, evenly spaced. */
const spread = (values, many) =>
  values.filter((_, at) => at % Math.max(1, Math.round(values.length / many)) === 0);
