/* Numbers, units and times for people. */

const THIN = "\u202f";
const LARGE = [
  [1e15, "P"],
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
];
const BYTES = [
  [2 ** 50, "PiB"],
  [2 ** 40, "TiB"],
  [2 ** 30, "GiB"],
  [2 ** 20, "MiB"],
  [2 ** 10, "KiB"],
  [1, "B"],
];
const YEAR = 365 * 86400;
const SECONDS = [
  [86400, "d"],
  [3600, "h"],
  [60, "min"],
  [1, "s"],
  [1e-3, "ms"],
  [1e-6, "µs"],
  [0, "ns"],
];

const digits = (value) => {
  const size = Math.abs(value);
  if (size >= 100 || Number.isInteger(value)) return value.toFixed(0);
  if (size >= 10) return trim(value.toFixed(1));
  if (size >= 1) return trim(value.toFixed(2));
  return size >= 1e-5 ? trim(value.toPrecision(2)) : value.toExponential(1);
};
const trim = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);

/** 0.042, 12.5, 1.28k: three significant digits. */
export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const [size, sign] = LARGE.find(([least]) => Math.abs(value) >= least * 0.9995) ?? [1, ""];
  return digits(value / size) + sign;
}

function scaled(value, table) {
  const [size, sign] = table.find(([least]) => Math.abs(value) >= least * 0.9995) ?? table.at(-1);
  return digits(value / (size || 1e-9)) + THIN + sign;
}

/** Return a value with its unit: seconds and bytes are scaled, a ratio is a percentage. */
export function quantity(value, unit = "") {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === 0)
    return unit === "ratio"
      ? "0" + THIN + "%"
      : "0" + (unit && unit !== "bytes" ? THIN + short(unit) : "");
  if (unit === "seconds" || unit === "s") return scaled(value, SECONDS);
  if (unit === "ms" || unit === "milliseconds") return scaled(value / 1000, SECONDS);
  if (unit === "bytes") return scaled(value, BYTES);
  if (unit === "ratio") return digits(value * 100) + THIN + "%";
  return number(value) + (unit ? THIN + short(unit) : "");
}

const short = (unit) => ({ seconds: "s", milliseconds: "ms", usd: "$", eur: "€" })[unit] ?? unit;

export const plural = (count, word) => `${whole(count)} ${word}${count === 1 ? "" : "s"}`;

export const whole = (value) =>
  value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en-US");

/** The change from *before* to *now* as a signed percentage, or null if there is none. */
export function change(now, before) {
  if (now === null || before === null || now === undefined || before === undefined || !before)
    return null;
  const part = (now - before) / Math.abs(before);
  return Number.isFinite(part) ? part : null;
}

export const signed = (part) =>
  (part > 0 ? "+" : part < 0 ? "−" : "±") +
  digits(Math.min(Math.abs(part) * 100, 9999)) +
  THIN +
  "%";

/** 95 s is 1 min 35 s, 7,800 s is 2 h 10 min. */
export function span(seconds) {
  const size = Math.max(0, Math.round(seconds));
  if (size >= 2 * YEAR) return `${Math.floor(size / YEAR)}${THIN}years`;
  if (size < 60) return `${size}${THIN}s`;
  const [big, bigSign, small, smallSign] =
    size < 3600
      ? [60, "min", 1, "s"]
      : size < 86400
        ? [3600, "h", 60, "min"]
        : [86400, "d", 3600, "h"];
  const rest = Math.floor((size % big) / small);
  return `${Math.floor(size / big)}${THIN}${bigSign}` + (rest ? ` ${rest}${THIN}${smallSign}` : "");
}

export const ago = (seconds) => (seconds < 2 ? "now" : `${span(seconds).split(" ")[0]} ago`);

const formats = new Map();

function format(zone, options) {
  const key = zone + JSON.stringify(options);
  if (!formats.has(key)) {
    const place = zone === "utc" ? { timeZone: "UTC" } : {};
    formats.set(key, new Intl.DateTimeFormat("en-GB", { hourCycle: "h23", ...place, ...options }));
  }
  return formats.get(key);
}

/** For an axis whose ticks are *step* seconds apart. */
export function tick(time, step, zone) {
  const at = time * 1000;
  if (step >= 86400) return format(zone, { day: "numeric", month: "short" }).format(at);
  const clock = format(zone, {
    hour: "2-digit",
    minute: "2-digit",
    ...(step < 60 ? { second: "2-digit" } : {}),
  }).format(at);
  return clock === "00:00" ? format(zone, { day: "numeric", month: "short" }).format(at) : clock;
}

export function moment(time, zone, seconds = true) {
  const options = {
    weekday: "short",
    day: "numeric",
    month: "short",
    hour: "2-digit",
    minute: "2-digit",
    ...(seconds ? { second: "2-digit" } : {}),
  };
  return format(zone, options).format(time * 1000) + (zone === "utc" ? " UTC" : "");
}

export const clock = (time, zone) =>
  format(zone, { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(time * 1000);

/** Return the seconds that local time is ahead of UTC at *time*. */
export const offset = (time, zone) =>
  zone === "utc" ? 0 : -new Date(time * 1000).getTimezoneOffset() * 60;
