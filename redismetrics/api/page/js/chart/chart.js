/* A chart over time on two canvases: one for the data, the other follows the pointer.
 *
 *   const chart = new Chart(element, {onZoom: (since, until) => …, onHover: (at) => …});
 *   chart.show({times, since, until, step, kind: "line", series: [{label, color, values}]});
 *
 * The x axis is a time axis, unless the model has another `axis`.
 */

import { h, fill } from "../dom.js";
import * as layers from "./layers.js";
import { timeAxis } from "./axes.js";
import { bucketAxis, drawHeat } from "./heat.js";
import { drawMarks } from "./marks.js";
import { linear, reach, toPixels } from "./scales.js";
import { color } from "./colors.js";
import { plural, quantity } from "../format.js";
import { Pointer } from "./pointer.js";

const TOP = 12,
  BOTTOM = 26,
  RIGHT = 12;

export class Chart {
  constructor(host, { onZoom, onHover, label = "Chart" } = {}) {
    this.onHover = onHover;
    this.plot = h("canvas", { "aria-hidden": "true" });
    this.glass = h("canvas", { tabindex: "0", role: "img", "aria-label": label });
    this.tip = h("div.tip", { hidden: true });
    this.said = h("div.visually-hidden", { "aria-live": "polite" });
    this.element = fill(host, this.plot, this.glass, this.tip, this.said);
    this.element.classList.add("chart");
    this.dimmed = null;
    this.pointed = null; // the mark that is drawn through
    this.pointer = new Pointer(this, onZoom);
    this.watch = new ResizeObserver(() => this.resize());
    this.watch.observe(host);
  }

  close() {
    this.watch.disconnect();
  }

  /** Show *model*: times, since, until, step, kind, series, `bands` or `heat`, and `marks`. */
  show(model) {
    this.model = { kind: "line", series: [], unit: "", zone: "local", marks: [], ...model };
    this.model.axis ??= timeAxis(this.model.zone);
    this.pointer.fit();
    this.glass.setAttribute("aria-label", describe(this.model));
    this.resize();
  }

  /** Draw all series except *series* pale; null draws all alike. */
  highlight(series) {
    this.dimmed = series ? new Set([series]) : null;
    this.draw();
  }

  /** Move the crosshair to a mark. */
  goTo(mark) {
    const { times, step } = this.model;
    this.pointer.y = 20;
    this.pointer.place(Math.floor((mark.time - times[0]) / step));
    this.pointer.say();
  }

  /** Draw the line of one mark; null: of none. */
  point(mark) {
    this.pointed = mark;
    this.draw();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (!width || !height) return;
    const ratio = devicePixelRatio || 1;
    for (const canvas of [this.plot, this.glass]) {
      if (
        canvas.width === Math.round(width * ratio) &&
        canvas.height === Math.round(height * ratio)
      )
        continue;
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    this.width = width;
    this.height = height;
    this.draw();
  }

  draw() {
    if (!this.model || !this.width) return;
    const context = this.plot.getContext("2d");
    context.clearRect(0, 0, this.width, this.height);
    this.scale = this.measure(context);
    if (!this.model.plain) this.drawAxes(context);
    const { kind, series, previous, bands, heat } = this.model;
    context.save();
    context.beginPath();
    context.rect(this.scale.left, 0, this.scale.right - this.scale.left, this.height);
    context.clip();
    layers.holes(context, this.scale, this.holes(), color("line"));
    if (heat) drawHeat(context, this.scale, heat);
    if (bands) layers.bands(context, this.scale, bands.columns, bands.color, bands.middle);
    if (previous?.length) layers.lines(context, this.scale, previous, { width: 1.3 });
    if (kind === "area") layers.areas(context, this.scale, series, this);
    else if (kind === "bar") layers.bars(context, this.scale, series, this);
    else {
      if (series.length <= 2 && !bands && !heat && !series[0]?.xs)
        layers.wash(context, this.scale, series, this.scale.bottom - this.scale.top);
      if (heat) layers.lines(context, this.scale, series.map(halo), { width: 4 });
      layers.lines(context, this.scale, series, {
        width: series.length > 6 ? 1.3 : 1.8,
        dimmed: this.dimmed,
      });
    }
    context.restore();
    drawMarks(context, this.scale, this.model.marks, this.pointed);
    this.pointer.draw();
  }

  measure(context) {
    const { times, since, until, step, series, previous, bands, heat, kind, unit, zero, plain } =
      this.model;
    const top = plain ? 4 : TOP,
      bottom = this.height - (plain ? 2 : BOTTOM);
    const columns = [...series, ...(previous ?? [])]
      .map((each) => each.ys ?? each.values)
      .concat(bands ? bands.columns : []);
    const stacked = kind === "area" || kind === "bar";
    let [low, high] = reach(stacked ? series.map((each) => each.values) : columns, stacked);
    if (stacked && previous?.length)
      high = Math.max(high, reach(previous.map((each) => each.values))[1]);
    const many = Math.max(2, Math.round((bottom - top) / 52));
    const axis = heat?.edges.length
      ? bucketAxis(heat.edges, many)
      : linear(low, high, many, unit, zero || stacked);
    context.font = `11px ${getComputedStyle(this.element).fontFamily}`;
    const labels = axis.ticks.map((value) => quantity(value, unit));
    const left = plain
      ? 0
      : Math.ceil(Math.max(30, ...labels.map((label) => context.measureText(label).width + 12)));
    const right = this.width - (plain ? 0 : RIGHT);
    const at = (time) => left + ((time - since) / (until - since)) * (right - left);
    // Bars and cells fill their interval; a point of a line is at its beginning.
    const middle = heat || kind === "bar" ? step / 2 : 0;
    return {
      axis,
      labels,
      left,
      right,
      top,
      bottom,
      at,
      x: (place) => at(times[place] + middle),
      y: toPixels(axis, top, bottom),
      timeOf: (pixel) => since + ((pixel - left) / (right - left)) * (until - since),
      placeOf: (pixel) =>
        Math.round((this.scale.timeOf(pixel) - middle - times[0]) / step),
    };
  }

  drawAxes(context) {
    const { axis, labels, left, right, bottom, at, y } = this.scale;
    const { since, until, axis: along } = this.model;
    context.font = `11px ${getComputedStyle(this.element).fontFamily}`;
    context.lineWidth = 1;
    context.textBaseline = "middle";
    context.textAlign = "right";
    axis.ticks.forEach((value, place) => {
      const line = Math.round(y(value)) + 0.5;
      context.strokeStyle = color(place === 0 && !axis.place ? "line-strong" : "line");
      context.beginPath();
      context.moveTo(left, line);
      context.lineTo(right, line);
      context.stroke();
      context.fillStyle = color("soft");
      context.fillText(labels[place], left - 8, line);
    });
    const width = (until - since) / Math.max(2, (right - left) / 84);
    const { step, ticks } = along.ticks(since, until, width);
    context.textAlign = "center";
    for (const time of ticks) {
      const line = Math.round(at(time)) + 0.5;
      context.strokeStyle = color("line");
      context.beginPath();
      context.moveTo(line, bottom);
      context.lineTo(line, bottom + 4);
      context.stroke();
      if (line > left + 14 && line < right - 10)
        context.fillText(along.tick(time, step), line, bottom + 15);
    }
  }

  /** Spans of two or more intervals in which no series has a value. */
  holes() {
    const { times, series, bands } = this.model;
    // For a heat map, the lines drawn over it decide.
    const columns = [
      ...series.map((each) => each.values),
      ...(bands ? bands.columns.slice(0, 1) : []),
    ];
    if (!columns.length) return [];
    const found = [];
    let from = -1;
    for (let at = 0; at <= times.length; at++) {
      const empty = at < times.length && columns.every((column) => Number.isNaN(column[at]));
      if (empty && from < 0) from = at;
      if (!empty && from >= 0) {
        if (at - from >= 2) found.push([Math.max(from - 1, 0), Math.min(at, times.length - 1)]);
        from = -1;
      }
    }
    return found;
  }
}

const halo = (series) => ({ ...series, color: color("card"), dash: null });

/** Describe a chart in words; the table below it has the numbers. */
function describe({ series, bands, heat, marks, unit, axis, label = "" }) {
  const known = series
    .flatMap(({ values }) => [values.findLast((value) => !Number.isNaN(value))])
    .filter((value) => value !== undefined);
  const what = heat ? "heat map" : bands ? "percentiles" : `${series.length} series`;
  return (
    `${label} over ${axis.over}, ${what}` +
    (marks.length ? `, ${plural(marks.length, "mark")}` : "") +
    (known.length === 1 && !series[0].xs ? `, now ${quantity(known[0], unit)}` : "") +
    ". Arrow keys read values."
  );
}
