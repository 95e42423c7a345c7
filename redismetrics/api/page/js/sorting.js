/* The order of metrics by a column: those without a value last, equal ones by name. */

export function compare(a, b, column, down) {
  const [left, right] = [a[column], b[column]];
  if (left === null || right === null || left === undefined || right === undefined)
    return (left === null) - (right === null) || a.name.localeCompare(b.name);
  const order = typeof left === "number" ? left - right : String(left).localeCompare(String(right));
  return (down ? -order : order) || a.name.localeCompare(b.name);
}
