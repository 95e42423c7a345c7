/* The bar at the top: the views, the window, the state of the connection, and the theme. */

import { h, fill, icon, ICONS, bdi } from "../dom.js";
import { href, windowOf } from "../address.js";
import { windowPicker } from "./window_picker.js";
import { showHelp } from "../keys.js";
import { isDark } from "../chart/colors.js";

const STATES = { live: "Live", catching: "Catching up", cut: "Reconnecting" };
const VIEWS = [
  ["overview", "Overview"],
  ["explore", "Explore"],
  ["alerts", "Alerts"],
  ["store", "Store"],
];

export function header(app, element, themes) {
  const links = VIEWS.map(([view, text]) => h("a", { "data-view": view }, icon(ICONS[view]), text));
  const live = h(
    "button.button.live",
    { "aria-pressed": "true", title: "Pause (space)", onclick: () => toggleLive() },
    h("i"),
    h("span", {}, "Live"),
  );
  const theme = h("button.icon", {
    title: "Dark or light (d)",
    "aria-label": "Dark or light",
    onclick: themes.toggle,
  });
  const picker = windowPicker(app);
  const namespace = h("small", { title: "Namespace", hidden: true });
  let state = "live";

  fill(
    element,
    h(
      "a.brand",
      { href: "#/" },
      h(
        "svg",
        { viewBox: "0 0 32 32", "aria-hidden": "true" },
        h("rect", { width: 32, height: 32, rx: 8 }),
        h("path", { d: "M6 21h4l3-10 5 14 3-8h5" }),
      ),
      h("span.wide", {}, "redismetrics"),
      namespace,
    ),
    h("nav.views", { "aria-label": "Views" }, links),
    h(
      "div.tools",
      {},
      picker.element,
      live,
      h(
        "button.icon.wide",
        { title: "Keys (?)", "aria-label": "Keys", onclick: showHelp },
        icon(ICONS.help),
      ),
      theme,
    ),
  );

  function toggleLive(on = !app.live) {
    app.live = on;
    live.setAttribute("aria-pressed", String(on));
    showState();
    if (on) app.changed();
  }

  /** Show whether the page is `live`, `catching` up, or `cut` from the server. */
  function showConnection(next) {
    state = next;
    showState();
  }

  function showState() {
    live.classList.toggle("trouble", state === "cut");
    live.dataset.state = app.live ? state : "paused";
    live.lastChild.textContent = app.live ? STATES[state] : "Paused";
  }

  function update(route) {
    const current = route.view === "metric" ? "overview" : route.view;
    for (const link of links) {
      link.href = href(link.dataset.view);
      if (link.dataset.view === current) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    const { fixed } = windowOf(route.query, app.now());
    live.disabled = fixed;
    live.title = fixed ? "A fixed window is not live" : "Pause (space)";
    picker.update(route);
    fill(theme, icon(isDark() ? ICONS.sun : ICONS.moon));
  }

  /** Show the number of firing alerts beside the link to them. */
  function showFiring(count) {
    links[2].querySelector(".count")?.remove();
    if (count) links[2].append(h("span.count.bad", { title: `${count} firing` }, String(count)));
  }

  function showNamespace(name) {
    fill(namespace, bdi(name));
    namespace.hidden = false;
  }

  return { update, toggleLive, showConnection, showFiring, showNamespace };
}
