/* What the reader chose: theme, time zone, layout. */

const PREFIX = "redismetrics-";

export function preference(name, fallback) {
  try {
    return localStorage.getItem(PREFIX + name) ?? fallback;
  } catch {
    return fallback;
  }
}

export function prefer(name, value) {
  try {
    localStorage.setItem(PREFIX + name, value);
  } catch {
    /* private windows */
  }
}

export function applyTheme(theme = preference("theme", "")) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}
