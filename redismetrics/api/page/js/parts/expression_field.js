/* A field for an expression: it grows with the text, completes names, and marks an error. */

import { h, fill } from "../dom.js";
import { suggestions } from "./suggestions.js";

/** *run* is called on Enter; *valuesOf* completes label values. */
export function expressionField(run, valuesOf) {
  const input = h("textarea", {
    rows: 1,
    spellcheck: "false",
    autocapitalize: "off",
    autocomplete: "off",
    "aria-label": "PromQL expression",
    "aria-autocomplete": "list",
    "aria-controls": "completions",
    placeholder: "sum(rate(requests_total[5m]))",
    oninput: () => {
      mark(null);
      grow();
      list.suggest();
    },
    onkeydown: (event) => {
      if (list.handle(event) || event.key !== "Enter" || event.shiftKey) return;
      event.preventDefault();
      run();
    },
    onblur: () => list.close(),
  });
  const list = suggestions(input, valuesOf);
  // The same text underneath the field, of which only the mark is visible.
  const below = h("div.below", { "aria-hidden": "true" });
  let marked = "";

  function grow() {
    input.style.height = "auto";
    input.style.height = `${input.scrollHeight}px`;
  }

  /** Mark an error from one character to another; null: no error. */
  function mark(place) {
    const text = input.value;
    const wanted = place ? JSON.stringify([text, place]) : "";
    if (wanted === marked) return;
    marked = wanted;
    input.setAttribute("aria-invalid", String(Boolean(place)));
    if (place) input.setAttribute("aria-errormessage", "expression-error");
    else input.removeAttribute("aria-errormessage");
    const [from, to] = place ?? [0, 0];
    fill(
      below,
      place && [text.slice(0, from), h("mark", {}, text.slice(from, to)), text.slice(to)],
    );
    if (place && document.activeElement === input) input.setSelectionRange(from, from);
  }

  return {
    element: h("div.expression", {}, below, input, list.element),
    offer: list.offer,
    close: list.close,
    mark,
    read: () => input.value,
    write(text) {
      if (input.value === text) return;
      input.value = text;
      mark(null);
      grow();
    },
  };
}
