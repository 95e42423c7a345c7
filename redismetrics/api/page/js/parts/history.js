/* Expressions that were evaluated, the newest first. They stay in this browser. */

import { h, bdi, icon, ICONS } from "../dom.js";
import { menu } from "./menu.js";
import { preference, prefer } from "../preferences.js";

const MOST = 30;
const LONGEST = 2000; // characters of an expression that is kept
// Pages of several servers may share an origin.
const KEY = `expressions:${new URL(".", document.baseURI).pathname}`;

function read() {
  try {
    const found = JSON.parse(preference(KEY, "[]"));
    return Array.isArray(found) ? found.filter((each) => typeof each === "string") : [];
  } catch {
    return [];
  }
}

export function remember(text) {
  const before = read();
  if (text === before[0] || text.length > LONGEST) return;
  const others = before.filter((each) => each !== text);
  prefer(KEY, JSON.stringify([text, ...others].slice(0, MOST)));
}

/** A button with a menu of them; *choose* is called with the selected one. */
export function historyMenu(choose) {
  const line = (close) => (text) =>
    h(
      "button.item.tall",
      {
        onclick: () => {
          close();
          choose(text);
        },
      },
      h("code", {}, bdi(text)),
    );
  const forget = (close) =>
    h(
      "button.item",
      {
        onclick: () => {
          prefer(KEY, "[]");
          close();
        },
      },
      "Forget all",
    );
  const { element, button } = menu(
    icon(ICONS.clock),
    (close) => {
      const all = read();
      return all.length
        ? [all.map(line(close)), forget(close)]
        : h("p.soft.pad", {}, "Expressions that were evaluated appear here.");
    },
    { kind: "button.icon", title: "History", end: true },
  );
  button.setAttribute("aria-label", "History");
  return element;
}
