/* The crosshair of a chart, the values below it, and the span that is dragged to zoom. */

import { h, fill, bdi } from "../dom.js";
import { color } from "./colors.js";
import { moment, quantity } from "../format.js";

const SHOWN = 12; // values beside the crosshair
const LEAST = 6; // pixels that make a drag

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
    this.place(Math.round((scale.timeOf(x) - model.times[0]) / model.step));
  }

  place(at) {
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
    const { times } = this.chart.model;
    const steps = {
      ArrowLeft: -1,
      ArrowRight: 1,
      PageUp: -10,
      PageDown: 10,
      Home: -Infinity,
      End: Infinity,
    };
    if (!(event.key in steps)) return;
    event.preventDefault();
    this.y = 40;
    this.place(
      Math.max(0, Math.min((this.at ?? times.length) + steps[event.key], times.length - 1)),
    );
    const rows = this.rows()
      .slice(0, 3)
      .map(({ label, text }) => `${label} ${text}`);
    const time = moment(times[this.at], this.chart.model.zone);
    this.chart.said.textContent = `${time}: ${rows.join(", ") || "nothing"}`;
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
        if (series && !Number.isNaN(value)) this.dot(context, x, scale.y(value), series.color);
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

  /** The values at the crosshair, the greatest first. */
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
    const shown = rows
      .slice(0, SHOWN)
      .map(({ label, text, color: dye }) =>
        h(
          "li",
          {},
          h("i.swatch", { style: { background: dye } }),
          h("span", {}, bdi(label)),
          h("b", {}, text),
        ),
      );
    fill(
      tip,
      h("time", {}, moment(model.times[this.at], model.zone)),
      shown.length ? h("ul", {}, shown) : h("p.soft", {}, "nothing recorded"),
      rows.length > SHOWN && h("p.soft", {}, `and ${rows.length - SHOWN} more`),
    );
    const size = tip.offsetWidth;
    const left = x + 14 + size > width ? x - 14 - size : x + 14;
    const top = Math.min(this.y ?? 20, this.chart.height - tip.offsetHeight - 8);
    tip.style.translate = `${Math.max(0, left)}px ${Math.max(0, top)}px`;
  }
}
