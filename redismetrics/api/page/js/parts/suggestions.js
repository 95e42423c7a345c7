/* Completion of names of metrics, labels and functions in a text field. */

import { h, fill, bdi } from "../dom.js";

const SHOWN = 8;
const FUNCTIONS = (
  "abs avg avg_over_time ceil changes count count_over_time delta deriv floor histogram_quantile " +
  "increase irate label_replace last_over_time max max_over_time min min_over_time " +
  "quantile_over_time rate resets round sort sort_desc stddev sum sum_over_time time topk bottomk"
).split(" ");

export function suggestions(input) {
  const element = h("ul.suggestions", { role: "listbox", "aria-label": "Completions" });
  element.hidden = true;
  let offered = FUNCTIONS.map((text) => ({ text, kind: "function" }));
  let found = [];
  let chosen = -1;
  let length = 0; // of the word before the cursor

  const of = (texts, kind) => texts.map((text) => ({ text, kind }));

  /** Complete these names, besides functions. */
  function offer({ metrics, labels }) {
    offered = [...of(metrics, "metric"), ...of(labels, "label"), ...of(FUNCTIONS, "function")];
    if (document.activeElement === input) suggest();
  }

  function close() {
    element.hidden = true;
    chosen = -1;
  }

  function suggest() {
    const before = input.value.slice(0, input.selectionStart);
    const word = before.match(/[A-Za-z_][\w:]*$/)?.[0] ?? "";
    length = word.length;
    const fits = offered.filter(({ text }) => text.includes(word) && text !== word);
    fits.sort((a, b) => b.text.startsWith(word) - a.text.startsWith(word));
    found = length > 1 && document.activeElement === input ? fits.slice(0, SHOWN) : [];
    chosen = -1;
    draw();
  }

  function draw() {
    element.hidden = !found.length;
    fill(
      element,
      found.map(({ text, kind }, place) =>
        h(
          "li",
          { role: "option", "aria-selected": String(place === chosen) },
          h(
            "button",
            {
              tabindex: -1,
              // Before the field loses the focus.
              onpointerdown: (event) => {
                event.preventDefault();
                take(place);
              },
            },
            bdi(text),
            h("small.soft", {}, kind),
          ),
        ),
      ),
    );
  }

  function take(place) {
    const end = input.selectionStart;
    input.setRangeText(found[place].text, end - length, end, "end");
    close();
    input.focus();
  }

  /** Handle a key of the field; return whether it was one of the list. */
  function handle(event) {
    if (element.hidden) return false;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      chosen = (chosen + step + found.length) % found.length;
      draw();
    } else if ((event.key === "Enter" || event.key === "Tab") && chosen >= 0) take(chosen);
    else if (event.key === "Escape") close();
    else return false;
    event.preventDefault();
    return true;
  }

  return { element, offer, suggest, close, handle };
}
