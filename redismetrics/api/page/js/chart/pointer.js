/* The crosshair of a chart, the values below it, and the span that is dragged to zoom. */

import { h, fill, bdi } from "../dom.js";
import { color } from "./colors.js";
import { clock, quantity, whole } from "../format.js";
import { marksAt } from "./marks.js";

const SHOWN = 12; // values beside the crosshair
const LEAST = 6; // pixels that make a drag
const MARKS = 3; // marks beside the crosshair

export class Pointer {
  constructor(chart, onZoom) {
    this.chart = chart;
    this.onZoom = onZoom;
    this.at = null;
    const { glass } = chart;
    const on = (name, handle) => glass.addEventListener(name, handle);
    on("pointermove", (event) => this.move(event.offsetX, event.offsetY));
    on("pointerleave", () => {
      if (this.from === undefined) this.leave();
    });
    on("pointerdown", (event) => {
      if (event.button === 0 && event.pointerType === "mouse" && onZoom) {
        this.from = event.offsetX;
        glass.setPointerCapture(event.pointerId);
      }
    });
    on("pointerup", (event) => this.release(event.offsetX));
    on("dblclick", () => onZoom?.(null));
    on("keydown", (event) => this.key(event));
    on("blur", () => this.leave());
  }

  move(x, y) {
    const { model, scale } = this.chart;
    if (!scale || !model.times.length) return;
    this.y = y;
    this.to = Math.max(scale.left, Math.min(x, scale.right));
    this.place(scale.placeOf(x), x);
  }

  /** Move the crosshair to an interval; *pixel* is the pointer's position, if there is one. */
  place(at, pixel = null) {
    this.pixel = pixel;
    this.at = Math.max(0, Math.min(at, this.chart.model.times.length - 1));
    this.chart.onHover?.(this.at);
    this.draw();
  }

  leave() {
    this.at = null;
    this.from = undefined;
    this.chart.onHover?.(null);
    this.draw();
  }

  release(x) {
    const { from } = this;
    this.from = undefined;
    if (from !== undefined && Math.abs(x - from) >= LEAST) {
      const [left, right] = [Math.min(x, from), Math.max(x, from)].map((pixel) =>
        this.chart.scale.timeOf(pixel),
      );
      this.onZoom(Math.floor(left), Math.ceil(right));
    }
    this.draw();
  }

  key(event) {
    const { times, heat } = this.chart.model;
    const steps = {
      ArrowLeft: -1,
      ArrowRight: 1,
      PageUp: -10,
      PageDown: 10,
      Home: -Infinity,
      End: Infinity,
    };
    const rows = heat && { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (!times.length || !(event.key in steps || rows)) return;
    event.preventDefault();
    const from = this.at ?? times.length - (rows ? 1 : 0);
    const at = Math.max(0, Math.min(from + (steps[event.key] ?? 0), times.length - 1));
    this.y = heat ? this.heightOf(at, rows) : 40;
    this.place(at);
    this.say();
  }

  /** The pixel of the fullest bucket of an interval, or of the one *rows* above the current one. */
  heightOf(at, rows) {
    const { model, scale } = this.chart;
    const { edges, counts } = model.heat;
    const size = (scale.bottom - scale.top) / Math.max(1, edges.length - 1);
    const fullest = counts[at].indexOf(Math.max(...counts[at]));
    const row = rows && this.at !== null ? this.row() + rows : fullest;
    return scale.bottom - (Math.max(0, Math.min(row, edges.length - 2)) + 0.5) * size;
  }

  /** Describe the values at the crosshair. */
  say() {
    const { model, said } = this.chart;
    const cell = this.cell();
    const parts = [
      ...this.marks().map(({ text }) => text),
      ...(cell ? [`${cell.label} ${cell.text}`] : []),
      ...this.rows()
        .slice(0, 3)
        .map(({ label, text }) => `${label} ${text}`),
    ];
    const time = model.axis.text(model.times[this.at]);
    said.textContent = `${time}: ${parts.join(", ") || "nothing"}`;
  }

  marks() {
    const { model, scale } = this.chart;
    return marksAt(model, scale, this.at, this.pixel);
  }

  /** The bucket of a heat map at the height of the pointer. */
  row() {
    const { scale, model } = this.chart;
    const rows = model.heat.edges.length - 1;
    const part = (scale.bottom - this.y) / (scale.bottom - scale.top);
    return Math.max(0, Math.min(Math.floor(part * rows), rows - 1));
  }

  /** The cell of a heat map at the pointer: its range of values and number of samples. */
  cell() {
    const { heat, unit } = this.chart.model;
    if (!heat?.edges.length) return null;
    const row = this.row();
    const [from, to] = [heat.edges[row], heat.edges[row + 1]].map((edge) => quantity(edge, unit));
    const count = heat.counts[this.at]?.[row] ?? 0;
    return { label: `${from} to ${to}`, text: `${whole(count)} sample${count === 1 ? "" : "s"}` };
  }

  /** Stay within the intervals of the model: another window may have fewer. */
  fit() {
    const last = this.chart.model.times.length - 1;
    if (this.at !== null && this.at > last) this.at = last < 0 ? null : last;
  }

  draw() {
    const { glass, tip, scale, model, width, height } = this.chart;
    const context = glass.getContext("2d");
    context.clearRect(0, 0, width, height);
    tip.hidden = this.at === null || !scale;
    if (tip.hidden) return;
    if (this.from !== undefined && Math.abs(this.to - this.from) >= LEAST) {
      context.fillStyle = color("accent");
      context.globalAlpha = 0.14;
      context.fillRect(
        Math.min(this.from, this.to),
        scale.top,
        Math.abs(this.to - this.from),
        scale.bottom - scale.top,
      );
      context.globalAlpha = 1;
    }
    const x = Math.round(scale.x(this.at)) + 0.5;
    context.strokeStyle = color("soft");
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x, scale.top);
    context.lineTo(x, scale.bottom);
    context.stroke();
    const rows = this.rows();
    if (model.kind === "line")
      for (const { value, series } of rows.slice(0, 50))
        if (series && !Number.isNaN(value)) {
          const place = series.xs ? scale.at(series.xs[series.near[this.at]]) : x;
          this.dot(context, place, scale.y(value), series.color);
        }
    this.showTip(rows, x);
  }

  dot(context, x, y, fillColor) {
    context.beginPath();
    context.arc(x, y, 3.5, 0, 7);
    context.fillStyle = fillColor;
    context.fill();
    context.lineWidth = 1.5;
    context.strokeStyle = color("card");
    context.stroke();
  }

  /** The values at the crosshair, highest first. */
  rows() {
    const { model } = this.chart;
    const { at } = this;
    const text = (value) => quantity(value, model.unit);
    const stacked = model.kind !== "line" && model.series.length > 1;
    const rows = model.series.map((series) => ({
      label: series.label,
      value: series.values[at],
      text: text(series.values[at]),
      color: series.color,
      series,
    }));
    if (model.bands)
      for (const [place, column] of model.bands.columns.entries())
        if (place !== model.bands.middle)
          rows.push({
            label: model.bands.labels[place],
            value: column[at],
            text: text(column[at]),
            color: model.bands.color,
          });
    for (const series of model.previous ?? [])
      rows.push({
        label: series.label,
        value: series.values[at],
        text: text(series.values[at]),
        color: series.color,
      });
    if (stacked) {
      const total = model.series.reduce((sum, { values }) => sum + (values[at] || 0), 0);
      rows.push({ label: "total", value: total, text: text(total), color: "transparent" });
    }
    return rows.filter(({ value }) => !Number.isNaN(value)).sort((a, b) => b.value - a.value);
  }

  showTip(rows, x) {
    const { tip, model, width } = this.chart;
    const line = ({ label, text, color: dye }) =>
      h(
        "li",
        {},
        h("i.swatch", { style: { background: dye ?? "transparent" } }),
        h("span", {}, bdi(label)),
        h("b", {}, text),
      );
    const cell = this.cell(),
      marks = this.marks();
    const shown = [...(cell ? [cell] : []), ...rows.slice(0, SHOWN)].map(line);
    fill(
      tip,
      h("time", {}, model.axis.text(model.times[this.at])),
      marks.slice(0, MARKS).map(({ text, time }) =>
        h("p.mark", {}, bdi(text), h("small.soft", {}, clock(time, model.zone))),
      ),
      marks.length > MARKS && h("p.soft", {}, `and ${marks.length - MARKS} more marks`),
      shown.length ? h("ul", {}, shown) : h("p.soft", {}, "nothing recorded"),
      rows.length > SHOWN && h("p.soft", {}, `and ${rows.length - SHOWN} more`),
    );
    const size = tip.offsetWidth;
    const left = x + 14 + size > width ? x - 14 - size : x + 14;
    const top = Math.min(this.y ?? 20, this.chart.height - tip.offsetHeight - 8);
    tip.style.translate = `${Math.max(0, left)}px ${Math.max(0, top)}px`;
  }
}
