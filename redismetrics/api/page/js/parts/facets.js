/* The tags of a metric, and how its samples are spread over their values. A click filters. */

import { h, fill, refill, bdi, icon, ICONS } from "../dom.js";
import { change, filters } from "../address.js";
import { quantity, whole } from "../format.js";
import { tags as tagsOf } from "../questions.js";

export function facets() {
  const element = h("section.card.facets", {}, h("h2", {}, "Tags"));
  let asked = "";
  let found = Promise.resolve([]);

  /** Show the tags, and return them; they are read again only if the query changes. */
  function update(metric, query, common, signal) {
    const wanted = JSON.stringify([
      query.getAll("tag"),
      query.getAll("by"),
      query.get("window"),
      query.get("since"),
      query.get("until"),
    ]);
    if (wanted !== asked) {
      asked = wanted;
      found = read(metric, query, common, signal);
    }
    return found;
  }

  async function read(metric, query, common, signal) {
    try {
      const tags = await tagsOf(common, signal);
      refill(
        element,
        h("h2", {}, "Tags"),
        tags.length
          ? tags.map((tag) => facet(tag, query))
          : h("p.soft", {}, "This metric has no tags."),
      );
      return tags;
    } catch (error) {
      if (error.name !== "AbortError")
        fill(element, h("h2", {}, "Tags"), h("p.soft", {}, "The tags could not be read."));
      asked = "";
      return [];
    }
  }

  return { element, update };
}

function facet({ key, count, values }, query) {
  const by = query.getAll("by"),
    tags = query.getAll("tag");
  const grouped = by.includes(key);
  const group = () => change({ by: grouped ? by.filter((each) => each !== key) : [...by, key] });
  const choose = (text) =>
    change({
      tag: tags.includes(text)
        ? tags.filter((each) => each !== text)
        : [...tags.filter((each) => !each.startsWith(`${key}=`) && each !== `!${key}`), text],
    });
  const more = count - values.filter(({ value }) => value !== null).length;
  return h(
    "div.facet",
    {},
    h(
      "header",
      {},
      h("span", {}, bdi(key)),
      h("small.soft", {}, whole(count)),
      h(
        "button.link",
        { "aria-pressed": String(grouped), onclick: group },
        grouped ? "Grouped" : "Group",
      ),
    ),
    h(
      "ul",
      {},
      values.map(({ value, share }) => {
        const text = value === null ? `!${key}` : `${key}=${value}`;
        return h(
          "li",
          {},
          h(
            "button",
            {
              "aria-pressed": String(tags.includes(text)),
              style: { "--part": share / (values[0].share || 1) },
              onclick: () => choose(text),
            },
            h("span", {}, bdi(value ?? `without ${key}`)),
            h("small", {}, quantity(share, "ratio")),
          ),
        );
      }),
    ),
    more > 0 && h("p.soft", {}, `and ${whole(more)} more`),
  );
}

/** The filters of the address; a click removes one. */
export const filterChips = (query) =>
  filters(query).map(({ text, key, value }) =>
    h(
      "button.chip.filter",
      {
        title: "Drop this filter",
        onclick: () => change({ tag: query.getAll("tag").filter((each) => each !== text) }),
      },
      bdi(value === null ? `without ${key}` : `${key} = ${value}`),
      icon(ICONS.close),
    ),
  );
