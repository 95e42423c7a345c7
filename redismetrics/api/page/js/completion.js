/* What may come next in an expression: names of metrics, labels, their values, functions. */

export const FUNCTIONS = (
  "abs absent absent_over_time acos acosh asin asinh atan atanh avg avg_over_time bottomk ceil " +
  "changes clamp clamp_max clamp_min cos cosh count count_over_time count_values day_of_month " +
  "day_of_week day_of_year days_in_month deg delta deriv double_exponential_smoothing end exp " +
  "first_over_time floor group histogram_avg histogram_count histogram_fraction " +
  "histogram_quantile histogram_quantiles histogram_stddev histogram_stdvar histogram_sum hour " +
  "idelta increase info irate label_join label_replace last_over_time limit_ratio limitk ln " +
  "log10 log2 mad_over_time max max_of max_over_time min min_of min_over_time minute month pi " +
  "predict_linear present_over_time quantile quantile_over_time rad range rate resets round " +
  "scalar sgn sin sinh sort sort_by_label sort_by_label_desc sort_desc sqrt start " +
  "start_timestamp stddev stddev_over_time stdvar stdvar_over_time step sum sum_over_time tan " +
  "tanh time timestamp topk ts_of_first_over_time ts_of_last_over_time ts_of_max_over_time " +
  "ts_of_min_over_time vector year"
).split(" ");

const STRING = String.raw`"(?:[^"\\]|\\.)*"`;
const IN_BRACES = new RegExp(String.raw`([\w:]*)\s*\{((?:[^{}"]|${STRING})*)$`);
const IN_VALUE = new RegExp(
  String.raw`([\w:]*)\s*\{(?:[^{}"]|${STRING})*?(\w+)\s*(?:=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)$`,
);
const IN_GROUPING = /\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*$/i;
const IN_STRING = new RegExp(String.raw`^(?:[^"]|${STRING})*"(?:[^"\\]|\\.)*$`);
const IN_RANGE = /\[[^\]]*$/;

/** Return what can complete the text before the cursor: `{kind, word, metric, label}`, or null. */
export function contextOf(before) {
  const value = IN_VALUE.exec(before);
  if (value) return { kind: "value", metric: value[1], label: value[2], word: value[3] };
  if (IN_STRING.test(before) || IN_RANGE.test(before)) return null;
  const word = /[A-Za-z_][\w:]*$/.exec(before)?.[0] ?? "";
  // A number such as 5m is not a name.
  if (/\d$/.test(before.slice(0, before.length - word.length))) return null;
  const isLabel = IN_BRACES.test(before) || IN_GROUPING.test(before);
  return { kind: isLabel ? "label" : "name", word };
}

/** Return the items of *offered* that contain *word*; those that start with it come first. */
export function matching(offered, word, most) {
  const begin = [];
  const contain = [];
  const lower = word.toLowerCase();
  for (const each of offered) {
    const at = each.text.toLowerCase().indexOf(lower);
    if (at < 0 || each.text === word) continue;
    (at ? contain : begin).push(each);
    if (begin.length >= most) break;
  }
  return [...begin, ...contain].slice(0, most);
}
