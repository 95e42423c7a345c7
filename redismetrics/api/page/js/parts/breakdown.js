/* The largest values of one tag as small charts on one scale, so that one that differs is seen. */

import { h, refill, bdi, visible } from "../dom.js";
import { change, filters } from "../address.js";
import { quantity, whole } from "../format.js";
import { kindOf } from "../kinds.js";
import { series as seriesOf } from "../questions.js";
import { spark } from "../chart/spark.js";
import { segments } from "./menu.js";
import { unitOf, withoutIncomplete } from "./model.js";

const SHOWN = 12;
const NAMES = { rate: "Rate", mean: "Mean" };

export function breakdown(app) {
  const element = h("section.card", { hidden: true, "aria-label": "Breakdown" });
  let last = 0; // the newest update

  /** Show *metric* by one of its *tags*, which have two values or more. */
  async function update(metric, query, common, tags, signal) {
    const turn = ++last;
    const filtered = new Set(filters(query).map(({ key }) => key));
    // Groups and runs are in the chart itself.
    const open =
      query.has("by") || query.has("x")
        ? []
        : (await tags).filter(({ key, values }) => values.length > 1 && !filtered.has(key));
    if (turn !== last) return;
    const key = open.find((tag) => tag.key === query.get("split"))?.key ?? open[0]?.key;
    element.hidden = !key;
    if (!key) return;
    const aggregation = kindOf(metric.type).main;
    const asked = { ...common, by: [key], aggregations: [aggregation], top: SHOWN };
    const answer = await seriesOf(asked, signal);
    if (turn !== last) return;
    const { groups, left } = withoutIncomplete(answer, { value: aggregation }, app.now());
    const range = rangeOf(groups.flatMap(({ values }) => values[aggregation]));
    const choose = (split) => change({ split }, { replace: true });
    const keys = open.map((tag) => [tag.key, bdi(tag.key)]);
    refill(
      element,
      h(
        "header.section",
        {},
        h("h2", {}, `${NAMES[aggregation] ?? aggregation} by`),
        segments("Tag", keys, key, choose),
        h("span.fill"),
        h(
          "small.soft",
          {},
          left ? `the ${groups.length} largest of ${whole(groups.length + left)}, ` : "",
          "on the same scale",
        ),
      ),
      h(
        "div.multiples",
        {},
        groups.map((group) => multiple(metric, aggregation, key, group, range, query)),
      ),
    );
  }

  return { element, update };
}

/** The scale of all small charts: from 0, unless all values are far from it. */
function rangeOf(values) {
  const known = values.filter((value) => value !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  return [low > high * 0.6 ? low - (high - low) * 0.2 : Math.min(low, 0), high];
}

function multiple(metric, aggregation, key, { tags, values }, range, query) {
  const trend = values[aggregation],
    value = tags[key],
    text = value ?? `without ${key}`;
  const filter = value === null ? `!${key}` : `${key}=${value}`;
  const last = quantity(
    trend.findLast((each) => each !== null),
    unitOf(metric, aggregation),
  );
  return h(
    "button.multiple",
    {
      title: `Only ${visible(text)}`,
      onclick: () => change({ tag: [...query.getAll("tag"), filter] }),
    },
    h("span", {}, bdi(text)),
    h("b", {}, last),
    spark({ type: metric.type, trend, range }, "trend"),
  );
}
