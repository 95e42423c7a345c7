/* Elements without HTML: names and tag values may be hostile, so no text is parsed as markup. */

const SVG = "http://www.w3.org/2000/svg";
const DRAWN = new Set(["svg", "path", "rect", "circle", "line", "g", "polygon"]);
const INVISIBLE = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/** `h("button.primary", {onclick: save, "aria-label": "Save"}, "Save")`, without null and false. */
export function h(kind, attributes = {}, ...children) {
  const [tag, ...classes] = kind.split(".");
  const element = DRAWN.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [name, value] of Object.entries(attributes)) set(element, name, value);
  element.append(...nodes(children));
  return element;
}

function set(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "style")
    for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
  else if (name === "class") element.classList.add(...value.split(" ").filter(Boolean));
  else if (name === "value") element.value = value;
  else element.setAttribute(name, value === true ? "" : value);
}

const nodes = (children) =>
  children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false);

/** Replace the children of *element*. */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
  return element;
}

/** Replace the children of *element*; the focus moves to the element with the same name. */
export function refill(element, ...children) {
  const focused = document.activeElement;
  if (focused === element || !element.contains(focused)) return fill(element, ...children);
  // By the name without figures, which change.
  const named = (each) => (each.querySelector("bdi") ?? each).textContent;
  const name = named(focused);
  const same = () =>
    [...element.querySelectorAll("a, button, input")].filter((each) => named(each) === name);
  const at = same().indexOf(focused);
  fill(element, ...children);
  same()[at]?.focus({ preventScroll: true });
  return element;
}

/** Return a text with its control and direction characters spelled out. */
export function visible(text) {
  return String(text).replace(
    INVISIBLE,
    (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** Return a text as an element that cannot change the direction of the text around it. */
export const bdi = (text) => h("bdi", {}, visible(text));

export function icon(path, label) {
  const attributes = {
    viewBox: "0 0 24 24",
    width: 16,
    height: 16,
    fill: "none",
    stroke: "currentColor",
    "stroke-width": 1.8,
    "stroke-linecap": "round",
    "stroke-linejoin": "round",
  };
  return h(
    "svg",
    {
      ...attributes,
      ...(label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" }),
    },
    h("path", { d: path }),
  );
}

export const ICONS = {
  overview: "M4 5h7v6H4zM13 5h7v6h-7zM4 13h7v6H4zM13 13h7v6h-7z",
  explore: "M4 17l5-6 4 4 7-9M4 21h16",
  alerts: "M6 16V11a6 6 0 0 1 12 0v5l1.5 2h-15zM10 21h4",
  store: "M5 6c0-3 14-3 14 0s-14 3-14 0zM5 6v12c0 3 14 3 14 0V6M5 12c0 3 14 3 14 0",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6L19 19M19 5l-1.4 1.4M6.4 17.6L5 19",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l4.5 4.5",
  close: "M6 6l12 12M18 6L6 18",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  clock: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 7v5l3.5 2",
  down: "M6 9l6 6 6-6",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  out: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l4.5 4.5M8 11h6",
  rows: "M4 6h16M4 12h16M4 18h16",
  help: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM9.5 9.5a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.1.9-1.1 1.8M12 16.8v.2",
  tail: "M4 6h10M4 11h16M4 16h7",
};
