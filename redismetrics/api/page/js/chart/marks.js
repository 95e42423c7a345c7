/* Marks on a chart: what happened when, such as a deploy, as dashed lines with a flag. */

import { color } from "./colors.js";

const NEAR = 7; // pixels from a line at which the pointer is on it
const FLAG = 5;

/** Draw the *marks* of a window; the *pointed* one is drawn through. */
export function drawMarks(context, { at, left, right, top, bottom }, marks, pointed) {
  const drawn = new Set();
  for (const mark of marks) {
    const x = Math.round(at(mark.time)) + 0.5;
    // Of marks that share a pixel one line is enough.
    if (x < left || x > right || (drawn.has(x) && mark !== pointed)) continue;
    drawn.add(x);
    const line = (width, dye, dash) => {
      context.strokeStyle = color(dye);
      context.lineWidth = width;
      context.setLineDash(dash);
      context.beginPath();
      context.moveTo(x, top);
      context.lineTo(x, bottom);
      context.stroke();
    };
    // A light edge, to be seen on bars and heat maps too.
    context.globalAlpha = 0.6;
    line(3, "card", []);
    context.globalAlpha = 1;
    line(mark === pointed ? 2 : 1, "ink", mark === pointed ? [] : [4, 3]);
    context.setLineDash([]);
    context.fillStyle = color("ink");
    context.beginPath();
    context.moveTo(x - FLAG, top - FLAG - 2);
    context.lineTo(x + FLAG, top - FLAG - 2);
    context.lineTo(x, top + 2);
    context.fill();
  }
}

/** The marks at a pixel, or within the interval at *place* of the times. */
export function marksAt({ marks, times, step }, scale, place, pixel) {
  if (pixel !== null)
    return marks.filter(({ time }) => Math.abs(scale.at(time) - pixel) <= NEAR);
  return marks.filter(({ time }) => time >= times[place] && time < times[place] + step);
}
