/* Completion in a text field: a list below it, chosen from by arrow keys. */

import { h, fill, bdi } from "../dom.js";
import { contextOf, matching, FUNCTIONS } from "../completion.js";

const SHOWN = 8;
const LEAST = 2; // characters of a name before the list opens by itself

/** *valuesOf(label, metric)* returns a promise of the values of a label. */
export function suggestions(input, valuesOf) {
  const element = h("ul.suggestions", {
    id: "completions",
    role: "listbox",
    "aria-label": "Completions",
  });
  element.hidden = true;
  const of = (texts, kind) => texts.map((text) => ({ text, kind }));
  const offered = { name: of(FUNCTIONS, "function"), label: [] };
  const values = new Map(); // label and metric -> promise of what is offered
  let found = [];
  let chosen = -1;
  let context = null;

  /** Complete these names and labels, in addition to functions. */
  function offer({ metrics, labels }) {
    offered.name = [...of(metrics, "metric"), ...of(FUNCTIONS, "function")];
    offered.label = of(labels, "label");
    if (document.activeElement === input) suggest();
  }

  function close() {
    found = [];
    draw();
  }

  /** Open the list if something matches; *always*: even if nothing has been typed yet. */
  async function suggest(always = false) {
    const before = input.value.slice(0, input.selectionStart);
    const asked = (context = contextOf(before));
    const isLong = context?.word.length >= LEAST || context?.kind !== "name" || always;
    if (!context || !isLong || document.activeElement !== input) {
      close();
      return;
    }
    const all = context.kind === "value" ? await known(context) : offered[context.kind];
    if (context !== asked) return;
    found = matching(all, context.word, SHOWN);
    chosen = -1;
    draw();
  }

  async function known({ label, metric }) {
    const key = `${label} ${metric}`;
    if (!values.has(key))
      values.set(
        key,
        valuesOf(label, metric).then(
          (texts) => of(texts, "value"),
          () => {
            // Ask again at the next keystroke.
            values.delete(key);
            return [];
          },
        ),
      );
    return values.get(key);
  }

  function draw() {
    element.hidden = !found.length;
    if (element.hidden) chosen = -1;
    fill(element, found.map(option));
    if (chosen < 0) input.removeAttribute("aria-activedescendant");
    else input.setAttribute("aria-activedescendant", `completion-${chosen}`);
  }

  const option = ({ text, kind }, place) =>
    h(
      "li",
      {
        id: `completion-${place}`,
        role: "option",
        "aria-selected": String(place === chosen),
        // Before the field loses focus.
        onpointerdown: (event) => {
          event.preventDefault();
          take(place);
        },
      },
      bdi(text),
      h("small.soft", {}, kind),
    );

  function take(place) {
    const { text, kind } = found[place];
    const end = input.selectionStart;
    const after = input.value.slice(end);
    let written = text;
    if (kind === "function" && !after.startsWith("(")) written += "(";
    if (kind === "value") {
      written = text.replace(/["\\]/g, "\\$&").replace(/\n/g, "\\n");
      if (!after.startsWith('"')) written += '"';
    }
    input.setRangeText(written, end - context.word.length, end, "end");
    close();
    input.focus();
    input.dispatchEvent(new Event("input"));
    if (kind !== "function") close();
  }

  /** Handle a key pressed in the field; return whether it was for the list. */
  function handle(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === " " && event.ctrlKey) suggest(true);
    else if (element.hidden) return false;
    else if (step) {
      chosen = chosen < 0 && step < 0 ? found.length - 1 : (chosen + step) % found.length;
      if (chosen < 0) chosen += found.length;
      draw();
    } else if ((event.key === "Enter" || event.key === "Tab") && chosen >= 0) take(chosen);
    else if (event.key === "Escape") close();
    else return false;
    event.preventDefault();
    return true;
  }

  return { element, offer, suggest, close, handle };
}
