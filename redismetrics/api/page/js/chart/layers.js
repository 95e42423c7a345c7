/* Lines, areas, bars and bands on a canvas. Columns are Float64Array; a hole is NaN. */

/** Return the line through a column. Points that share a pixel become their minimum and maximum. */
function trace(x, y, column) {
  const path = new Path2D();
  const dense = column.length > 1.5 * Math.abs(x(column.length - 1) - x(0));
  let open = false;
  let pixel = NaN,
    low = 0,
    high = 0,
    last = 0;
  const close = () => {
    if (Number.isNaN(pixel)) return;
    if (high !== low) {
      path.lineTo(pixel, high);
      path.lineTo(pixel, low);
    }
    path.lineTo(pixel, last);
  };
  for (let at = 0; at < column.length; at++) {
    const value = column[at];
    if (Number.isNaN(value)) {
      if (dense) close();
      pixel = NaN;
      open = false;
      continue;
    }
    const left = x(at),
      top = y(value);
    if (!open) {
      path.moveTo(left, top);
      // A single point between gaps: a round cap makes it a dot.
      if (Number.isNaN(column[at + 1] ?? NaN)) path.lineTo(left + 0.01, top);
      open = true;
    }
    if (!dense) {
      path.lineTo(left, top);
      continue;
    }
    const at_ = Math.round(left);
    if (at_ !== pixel) {
      close();
      pixel = at_;
      low = high = last = top;
    } else {
      if (top < low) low = top;
      if (top > high) high = top;
      last = top;
    }
  }
  if (dense) close();
  return path;
}

/** Draw lines. A series with its own x positions has them as *xs*, and its values as *ys*. */
export function lines(context, { x, y, at: atOf }, series, { width = 1.6, dimmed } = {}) {
  // Drawing lines one screen pixel wide is many times faster than two.
  const fine = series.length > 30 ? 1 / context.getTransform().a : 1;
  context.lineJoin = series.length > 12 ? "bevel" : "round";
  context.lineCap = series.length > 12 ? "butt" : "round";
  for (const each of series) {
    const back = dimmed && !dimmed.has(each);
    context.globalAlpha = back ? 0.16 : 1;
    context.strokeStyle = each.color;
    context.lineWidth = series.length > 12 && (!dimmed || back) ? fine : width;
    context.setLineDash(each.dash ?? []);
    const { xs, ys, values } = each;
    context.stroke(xs ? trace((at) => atOf(xs[at]), y, ys) : trace(x, y, values));
  }
  context.setLineDash([]);
  context.globalAlpha = 1;
}

/** The area between two columns; gaps in the upper one are left open. */
function between(context, { x, y }, upper, lower) {
  const count = upper.length;
  for (let at = 0; at < count; at++) {
    if (Number.isNaN(upper[at])) continue;
    let end = at;
    while (end + 1 < count && !Number.isNaN(upper[end + 1])) end++;
    context.beginPath();
    for (let place = at; place <= end; place++) context.lineTo(x(place), y(upper[place]));
    for (let place = end; place >= at; place--)
      context.lineTo(x(place), y(lower ? lower[place] : 0));
    context.fill();
    at = end;
  }
}

export function wash(context, scale, series, height) {
  for (const each of series) {
    const fade = context.createLinearGradient(0, scale.top, 0, scale.top + height);
    fade.addColorStop(0, each.color);
    fade.addColorStop(1, "transparent");
    context.fillStyle = fade;
    context.globalAlpha = 0.16;
    const floor = new Float64Array(each.values.length).fill(scale.axis.low);
    between(context, scale, each.values, floor);
  }
  context.globalAlpha = 1;
}

export function areas(context, scale, series, { dimmed } = {}) {
  const count = series[0]?.values.length ?? 0;
  let lower = new Float64Array(count);
  for (const each of series) {
    const upper = lower.map((value, at) => value + (each.values[at] > 0 ? each.values[at] : 0));
    context.fillStyle = each.color;
    context.globalAlpha = dimmed && !dimmed.has(each) ? 0.18 : 0.82;
    between(context, scale, upper, lower);
    lower = upper;
  }
  context.globalAlpha = 1;
}

export function bars(context, { x, y, axis }, series, { dimmed } = {}) {
  const count = series[0]?.values.length ?? 0;
  const slot = count > 1 ? x(1) - x(0) : 20;
  const width = Math.max(1, Math.min(slot - (slot > 4 ? 1.5 : 0), 44));
  const floor = new Float64Array(count);
  for (const each of series) {
    context.fillStyle = each.color;
    context.globalAlpha = dimmed && !dimmed.has(each) ? 0.18 : 0.88;
    for (let at = 0; at < count; at++) {
      const value = each.values[at];
      if (!(value > 0)) continue;
      const top = y(floor[at] + value),
        bottom = y(Math.max(floor[at], axis.low));
      context.fillRect(x(at) - width / 2, top, width, Math.max(bottom - top, 1));
      floor[at] += value;
    }
  }
  context.globalAlpha = 1;
}

/** Draw percentiles as nested bands: *columns* in ascending order, *middle* the median. */
export function bands(context, scale, columns, color, middle) {
  context.fillStyle = color;
  for (let at = 0; at + 1 < columns.length; at++) {
    const far = Math.max(at < middle ? middle - at : at + 1 - middle, 1);
    context.globalAlpha = [0, 0.46, 0.22, 0.12, 0.08][Math.min(far, 4)];
    between(context, scale, columns[at + 1], columns[at]);
  }
  context.globalAlpha = 1;
}

/** Hatching where nothing was recorded, so that a gap is recognisable. */
export function holes(context, { x, top, bottom }, spans, color) {
  context.strokeStyle = color;
  context.lineWidth = 1;
  for (const [from, to] of spans) {
    const left = x(from),
      right = x(to);
    context.save();
    context.beginPath();
    context.rect(left, top, right - left, bottom - top);
    context.clip();
    context.beginPath();
    for (let at = left - (bottom - top); at < right; at += 8) {
      context.moveTo(at, bottom);
      context.lineTo(at + bottom - top, top);
    }
    context.stroke();
    context.restore();
  }
}
