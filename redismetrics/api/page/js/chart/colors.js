/* Colours of the style sheet for a canvas, which knows no variables. */

const known = new Map();
let probe;

export function color(name) {
  if (!known.has(name)) {
    probe ??= document.body.appendChild(
      Object.assign(document.createElement("span"), { hidden: true }),
    );
    probe.style.color = `var(--${name})`;
    known.set(name, getComputedStyle(probe).color);
  }
  return known.get(name);
}

export const forget = () => known.clear();

const PATTERNS = [null, [6, 3], [2, 3], [8, 3, 2, 3]];

/** The colour of the series at *place*: eight hues, then the same ones with dashes. */
export const paint = (place) => ({
  name: `c${(place % 8) + 1}`,
  color: color(`c${(place % 8) + 1}`),
  dash: PATTERNS[Math.floor(place / 8) % 4],
});

export function isDark() {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}
