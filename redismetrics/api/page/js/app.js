/* Start the page: the header, the view that the address names, keys, and the regular refresh. */

import { h, fill, visible } from "./dom.js";
import { info } from "./questions.js";
import * as alertRules from "./alerts.js";
import { read, href, windowOf, change } from "./address.js";
import { applyTheme, preference, prefer } from "./preferences.js";
import { bind, listen, showHelp } from "./keys.js";
import { header } from "./parts/header.js";
import { askForToken } from "./parts/token.js";
import { forget, isDark } from "./chart/colors.js";
import * as overview from "./views/overview.js";
import * as metric from "./views/metric.js";
import * as explore from "./views/explore.js";
import * as alerts from "./views/alerts.js";
import * as store from "./views/store.js";

const isFiring = ({ state }) => state === "firing";
const VIEWS = { overview, metric, explore, alerts, store };
const FOLLOWING = new Set(["overview"]); // views with a stream of all metrics
const COUNTED = 55_000; // ms until firing alerts are counted again
const main = document.getElementById("main");

const app = {
  live: true,
  isConnected: true,
  connected,
  zone: preference("zone", "local"),
  info: null,
  now: () => Date.now() / 1000 + app.skew,
  skew: 0, // seconds that the server's clock is ahead of the browser's
  note,
  changed: () => dispatchEvent(new Event("addresschange")),
  fail,
  complain,
  firing: (count) => bar.showFiring(count),
};

let shown = null; // {key, view, leave}
let failures = 0; // answers that a view did not get

/** Show the view of the address: a new one if its name has changed, otherwise update this one. */
function show({ fresh = false } = {}) {
  const route = read();
  const module = VIEWS[route.view] ?? overview;
  const key = `${route.view}/${route.name}`;
  if (shown?.key !== key) {
    shown?.leave.abort();
    const leave = new AbortController();
    const view = module.open(app, route, leave.signal);
    shown = { key, view, leave };
    fill(main, view.element);
    if (!fresh) {
      scrollTo(0, 0);
      main.focus({ preventScroll: true });
    }
  }
  document.title = `${visible(route.name) || module.title || "Metrics"} · redismetrics`;
  bar.update(route);
  shown.view.update(route);
}

function note(text) {
  const element = h("div.note", {}, text);
  document.getElementById("notes").append(element);
  setTimeout(() => element.remove(), 2600);
}

/** Note whether the server answers; after an interruption, request everything again. */
function connected(is) {
  if (is === app.isConnected) return;
  app.isConnected = is;
  bar.showConnection(is ? "catching" : "cut");
  if (is) Promise.resolve(refreshing).then(refresh);
}

/** Report an error that leaves the view unchanged. */
function complain(error) {
  if (error.name === "AbortError") return;
  if (error.status === 401) askForToken();
  else note(error.message);
}

/** Show an error at *place*; ask for a token if it is missing or wrong. */
function fail(error, place, again) {
  if (error.name === "AbortError") return;
  if (error.status === 401) {
    askForToken();
    return;
  }
  failures++;
  if (error.status === 0) connected(false);
  const retry = h("button.button", { onclick: again }, "Try again");
  fill(
    place,
    h(
      "div.banner.failure",
      { role: "alert" },
      h("div", {}, h("strong", {}, "Not up to date. "), error.message),
      retry,
    ),
  );
}

const themes = {
  toggle() {
    const theme = isDark() ? "light" : "dark";
    prefer("theme", theme);
    applyTheme(theme);
    repaint();
  },
};

function repaint() {
  forget();
  dispatchEvent(new Event("themechange"));
  show({ fresh: true });
}

let refreshing = null; // the refresh that runs
let counted = 0; // when alerts were counted

/** Request everything again, unless this is already in progress. */
function refresh() {
  if (!app.live || document.hidden) return null;
  refreshing ??= readAgain().finally(() => {
    refreshing = null;
  });
  return refreshing;
}

async function readAgain() {
  const before = failures;
  if (!app.info) await readInfo().catch(() => {});
  await countAlerts();
  const route = read();
  if (!windowOf(route.query, app.now()).fixed) await shown.view.update(route, { again: true });
  // A view with a stream notices by itself that the server is back.
  if (failures === before && !FOLLOWING.has(route.view)) app.isConnected = true;
  bar.showConnection(app.isConnected ? "live" : "cut");
}

async function readInfo() {
  app.info = await info();
  app.skew = app.info.now - Date.now() / 1000;
  bar.showNamespace(app.info.namespace);
  show({ fresh: true });
}

/** Show the number of firing alerts in each view; the alerts view does this itself. */
async function countAlerts() {
  if (!app.info?.promql || read().view === "alerts" || Date.now() - counted < COUNTED) return;
  counted = Date.now();
  try {
    app.firing((await alertRules.read()).filter(isFiring).length);
  } catch {
    // The view shows what is wrong with the server.
  }
}

function move(part) {
  const { since, until } = windowOf(read().query, app.now());
  const by = (until - since) * part;
  change({
    since: Math.round(since + by),
    until: Math.round(Math.min(until + by, app.now())),
    window: null,
  });
}

applyTheme();
const bar = header(app, document.getElementById("header"), themes);
for (const [key, view] of Object.entries({
  o: "overview",
  e: "explore",
  a: "alerts",
  s: "store",
})) {
  bind(`g ${key}`, `Go to ${view}`, () => {
    location.hash = href(view);
  });
}
bind("space", "Pause or resume", () => bar.toggleLive());
bind("[", "Earlier", () => move(-0.5), "Time");
bind("]", "Later", () => move(0.5), "Time");
bind(
  "-",
  "Zoom out",
  () => {
    const { since, until } = windowOf(read().query, app.now());
    const wide = (until - since) / 2;
    change({
      since: Math.round(since - wide),
      until: Math.round(Math.min(until + wide, app.now())),
      window: null,
    });
  },
  "Time",
);
bind("0", "Last hour", () => change({ since: null, until: null, window: "1h" }), "Time");
bind("d", "Dark or light theme", themes.toggle);
bind("?", "Show these keys", showHelp);
listen();

addEventListener("hashchange", () => show());
addEventListener("popstate", () => show());
addEventListener("addresschange", () => show());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});
setInterval(refresh, 10_000);
show({ fresh: true });

try {
  await readInfo();
  await countAlerts();
} catch (error) {
  complain(error);
}
