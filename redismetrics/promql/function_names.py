"""The names of all functions, by type of argument."""

# Functions of a range, which a source may compute itself.
RANGE_FUNCTIONS = frozenset(
    [
        "absent_over_time",
        "avg_over_time",
        "changes",
        "count_over_time",
        "delta",
        "deriv",
        "first_over_time",
        "idelta",
        "increase",
        "irate",
        "last_over_time",
        "mad_over_time",
        "max_over_time",
        "min_over_time",
        "present_over_time",
        "rate",
        "resets",
        "stddev_over_time",
        "stdvar_over_time",
        "sum_over_time",
        "ts_of_first_over_time",
        "ts_of_last_over_time",
        "ts_of_max_over_time",
        "ts_of_min_over_time",
    ]
)
# Functions of a range and of numbers.
PARAMETER_FUNCTIONS = frozenset(
    ["double_exponential_smoothing", "predict_linear", "quantile_over_time"]
)
# These keep the name of the metric, since their result is one of its values.
KEEP_NAME = frozenset(["first_over_time", "last_over_time"])

SCALAR_FUNCTIONS = frozenset(
    ["end", "max_of", "min_of", "pi", "range", "scalar", "start", "step", "time"]
)
# Functions of the value of each sample.
MATH_FUNCTIONS = frozenset(
    [
        "abs",
        "acos",
        "acosh",
        "asin",
        "asinh",
        "atan",
        "atanh",
        "ceil",
        "clamp",
        "clamp_max",
        "clamp_min",
        "cos",
        "cosh",
        "deg",
        "exp",
        "floor",
        "ln",
        "log10",
        "log2",
        "rad",
        "round",
        "sgn",
        "sin",
        "sinh",
        "sqrt",
        "tan",
        "tanh",
    ]
)
# Functions of a Unix time, which defaults to the evaluation time.
DATE_FUNCTIONS = frozenset(
    [
        "day_of_month",
        "day_of_week",
        "day_of_year",
        "days_in_month",
        "hour",
        "minute",
        "month",
        "year",
    ]
)
HISTOGRAM_FUNCTIONS = frozenset(
    [
        "histogram_avg",
        "histogram_count",
        "histogram_fraction",
        "histogram_quantile",
        "histogram_quantiles",
        "histogram_stddev",
        "histogram_stdvar",
        "histogram_sum",
    ]
)
SERIES_FUNCTIONS = frozenset(
    [
        "absent",
        "info",
        "label_join",
        "label_replace",
        "sort",
        "sort_by_label",
        "sort_by_label_desc",
        "sort_desc",
        "start_timestamp",
        "timestamp",
        "vector",
    ]
)

FUNCTIONS = (
    RANGE_FUNCTIONS
    | PARAMETER_FUNCTIONS
    | SCALAR_FUNCTIONS
    | MATH_FUNCTIONS
    | DATE_FUNCTIONS
    | HISTOGRAM_FUNCTIONS
    | SERIES_FUNCTIONS
)
