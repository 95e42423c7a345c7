/* The order of metrics by a column: those without a value last, equal ones by name. */

const { compare: byText } = new Intl.Collator("en");
const isMissing = (value) => value === null || value === undefined;

export function compare(a, b, column, down) {
  const [left, right] = [a[column], b[column]];
  if (isMissing(left) || isMissing(right))
    return isMissing(left) - isMissing(right) || byText(a.name, b.name);
  const order = typeof left === "number" ? left - right : byText(String(left), String(right));
  return (down ? -order : order) || byText(a.name, b.name);
}
