/* Marks on a chart: what happened when, such as a deploy, as dashed lines with a flag. */

import { color } from "./colors.js";

const NEAR = 7; // pixels from a line at which the pointer is on it
const FLAG = 5;

/** Draw the *marks* of a window; the *pointed* one gets a full line. */
export function drawMarks(context, scale, marks, pointed) {
  const { at, left, right } = scale;
  const places = marks.map(({ time }) => Math.round(at(time)) + 0.5);
  // One line is enough for marks that share a pixel.
  const distinct = [...new Set(places)].filter((x) => x >= left && x <= right);
  if (!distinct.length) return;
  const lines = verticals(distinct, scale);
  // A light edge, to be visible on bars and heat maps too.
  context.globalAlpha = 0.6;
  stroke(context, lines, 3, "card");
  context.globalAlpha = 1;
  stroke(context, lines, 1, "ink", [4, 3]);
  // By id: each answer of the server has new objects.
  const place = places[marks.findIndex(({ id }) => id === pointed?.id)];
  if (place) stroke(context, verticals([place], scale), 2, "ink");
  context.fillStyle = color("ink");
  context.fill(flags(distinct, scale));
}

function verticals(places, { top, bottom }) {
  const path = new Path2D();
  for (const x of places) {
    path.moveTo(x, top);
    path.lineTo(x, bottom);
  }
  return path;
}

function flags(places, { top }) {
  const path = new Path2D();
  for (const x of places) {
    path.moveTo(x - FLAG, top - FLAG - 2);
    path.lineTo(x + FLAG, top - FLAG - 2);
    path.lineTo(x, top + 2);
  }
  return path;
}

function stroke(context, path, width, dye, dash = []) {
  context.strokeStyle = color(dye);
  context.lineWidth = width;
  context.setLineDash(dash);
  context.stroke(path);
  context.setLineDash([]);
}

/** The marks at a pixel, or within the interval at *place* of the times. */
export function marksAt({ marks, times, step }, scale, place, pixel) {
  if (pixel !== null)
    return marks.filter(({ time }) => Math.abs(scale.at(time) - pixel) <= NEAR);
  return marks.filter(({ time }) => time >= times[place] && time < times[place] + step);
}
