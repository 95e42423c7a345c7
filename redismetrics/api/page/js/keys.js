/* Keys of the page. A view adds its own while it is shown; nothing happens while one types. */

import { h } from "./dom.js";

const all = new Map(); // key -> {run, text, group}
let prefix = "";

/** Bind *key* (`/`, `g o`) to a function; returns a function that removes the binding. */
export function bind(key, text, run, group = "Everywhere") {
  all.set(key, { run, text, group });
  return () => {
    if (all.get(key)?.run === run) all.delete(key);
  };
}

export function listen() {
  addEventListener("keydown", (event) => {
    if (
      event.ctrlKey ||
      event.metaKey ||
      event.altKey ||
      isTyping(event.target) ||
      document.querySelector("dialog[open]")
    )
      return;
    const key = prefix + (event.key === " " ? "space" : event.key);
    prefix = "";
    if (event.key === "g" && !key.includes(" ")) {
      prefix = "g ";
      return;
    }
    const found = all.get(key);
    if (!found || (key === "space" && event.target.closest("button, a, summary"))) return;
    event.preventDefault();
    found.run(event);
  });
}

const isTyping = (target) =>
  target.closest?.("input, textarea, select, [contenteditable]") && target.type !== "checkbox";

/** A dialog with all keys that work now. */
export function showHelp() {
  const groups = Map.groupBy(all, ([, { group }]) => group);
  const lists = [...groups].map(([group, keys]) =>
    h(
      "section",
      {},
      h("h2", {}, group),
      h(
        "dl",
        {},
        keys.map(([key, { text }]) => [
          h(
            "dt",
            {},
            key.split(" ").map((each) => h("kbd", {}, each)),
          ),
          h("dd", {}, text),
        ]),
      ),
    ),
  );
  const dialog = h(
    "dialog.help",
    {
      "aria-label": "Keys",
      onclose: () => dialog.remove(),
      onclick: (event) => event.target === dialog && dialog.close(),
    },
    h(
      "header",
      {},
      h("h1", {}, "Keys"),
      h("button.icon", { "aria-label": "Close", onclick: () => dialog.close() }, "✕"),
    ),
    h("div.columns", {}, lists),
  );
  document.body.append(dialog);
  dialog.showModal();
}
