/* A button with a panel below it. As a popover it closes by a click elsewhere, or Escape. */

import { h, fill } from "../dom.js";

let count = 0;

/** *build* returns the panel's content each time it opens; its argument closes the panel. */
export function menu(label, build, { kind = "button.button", title, end = false } = {}) {
  const panel = h("div.panel", { popover: "auto", id: `menu-${++count}` });
  const button = h(
    kind,
    { title, "aria-haspopup": "true", "aria-expanded": "false", popovertarget: panel.id },
    label,
  );
  panel.addEventListener("beforetoggle", (event) => {
    button.setAttribute("aria-expanded", String(event.newState === "open"));
    if (event.newState === "open")
      fill(
        panel,
        build(() => panel.hidePopover()),
      );
  });
  panel.addEventListener("toggle", (event) => {
    if (event.newState !== "open") return;
    const box = button.getBoundingClientRect();
    const left = end ? box.right - panel.offsetWidth : box.left;
    panel.style.left = `${Math.max(8, Math.min(left, innerWidth - panel.offsetWidth - 8))}px`;
    const lowest = Math.max(8, innerHeight - panel.offsetHeight - 8);
    panel.style.top = `${Math.min(box.bottom + 6, lowest)}px`;
    (panel.querySelector("[aria-current]") ?? panel.querySelector("input, button, a"))?.focus();
  });
  panel.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    // In a time field they change the time.
    if (!step || event.target.matches("input:not([type=checkbox])")) return;
    const items = [...panel.querySelectorAll("button, a, input")];
    items.at((items.indexOf(document.activeElement) + step) % items.length)?.focus();
    event.preventDefault();
  });
  return { element: h("span.menu", {}, button, panel), button, panel };
}

/** Choices of which one is selected, as buttons side by side. */
export function segments(label, options, current, choose) {
  return h(
    "div.segments",
    { role: "group", "aria-label": label },
    options.map(([value, text, title]) =>
      h(
        "button",
        { title, "aria-pressed": String(value === current), onclick: () => choose(value) },
        text,
      ),
    ),
  );
}

/** A line of a menu that can be chosen. */
export const item = (text, chosen, choose, hint) =>
  h(
    "button.item",
    { "aria-current": chosen && "true", onclick: choose },
    h("span", {}, text),
    hint && h("small.soft", {}, hint),
  );
