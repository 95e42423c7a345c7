"""
Every error that redismetrics raises, grouped by what to do about it.

    RedisMetricsError
    ├── InvalidMetric (ValueError)    correct the recording call
    │     InvalidName, InvalidTags, InvalidValue, InvalidTimestamp, TypeMismatch
    ├── InvalidQuery (ValueError)     correct the query
    │     UnknownWindow, UnknownAggregation, OutsideRetention, TooManyRows,
    │     InvalidExpression, EvaluationFailed, EvaluationTimeout
    ├── InvalidSetting (ValueError)   correct the settings
    ├── StoreError                    check Redis
    │     StoreUnavailable (safe to retry; ArchiveUnavailable: the archive, not Redis),
    │     FormatMismatch, ScriptFailed
    └── MissingExtra (ImportError)    install the extra

Every message names the argument, says what is allowed and what was passed, and never contains a
password.
"""


class RedisMetricsError(Exception):
    """Base class of all redismetrics errors."""


class InvalidMetric(RedisMetricsError, ValueError):
    """A recording call is invalid, and nothing was recorded. Correct the call.

    With ``on_invalid="drop"``, errors that depend on data are counted in `stats()` instead.
    """


class InvalidName(InvalidMetric):
    """A metric name or tag key is too long or has characters that are not allowed. Rename it."""


class InvalidTags(InvalidMetric):
    """Tags or metadata cannot be stored: too many, too long, or of an unsupported type.

    Pass fewer or shorter ones, or convert the values to text.
    """


class InvalidValue(InvalidMetric):
    """A value is not a finite number, or a counter's amount is negative. Check the value first."""


class InvalidTimestamp(InvalidMetric):
    """A time has no time zone or is out of range. Pass an aware datetime or Unix seconds."""


class TypeMismatch(InvalidMetric):
    """A metric is used or declared differently than before. Use the known type or another name."""


class InvalidQuery(RedisMetricsError, ValueError):
    """A query is invalid, and nothing was read. Correct its arguments."""


class UnknownWindow(InvalidQuery):
    """A window or an interval has an unknown form. The message lists the valid forms."""


class UnknownAggregation(InvalidQuery):
    """An aggregation does not exist. The message lists those that do."""


class OutsideRetention(InvalidQuery):
    """The interval is finer than the data still stored for the window. Use a longer interval."""


class TooManyRows(InvalidQuery):
    """The result would have more rows than the server's limit (see docs/http.md).

    Use a shorter window, a longer interval or fewer groups.
    """


class InvalidExpression(InvalidQuery):
    """A PromQL expression cannot be parsed, or is too large. The message says where."""


class EvaluationFailed(InvalidQuery):
    """A PromQL expression cannot be evaluated on this data, or exceeds the limits.

    Match on other labels, or use a shorter range or a longer step.
    """


class EvaluationTimeout(InvalidQuery):
    """A PromQL expression took too long. Use a shorter range, a longer step or fewer series."""


class InvalidSetting(RedisMetricsError, ValueError):
    """A setting, argument or environment variable is invalid. The message names it."""


class StoreError(RedisMetricsError):
    """Redis is the cause, not the call. Run `redismetrics doctor` to check the server."""


class StoreUnavailable(StoreError):
    """Redis did not answer in time. Retry later: a batch counts once, however often it is sent."""


class ArchiveUnavailable(StoreUnavailable):
    """A window begins before what Redis holds, and the archive did not answer or returned an error.

    Retry later, or query a window that Redis holds.
    """


class FormatMismatch(StoreError):
    """Redis holds data that this version cannot read: written by another version, or damaged.

    Upgrade all processes to the same version; delete a damaged metric.
    """


class ScriptFailed(StoreError):
    """Redis rejected a command. Check permissions, memory, and keys of another type."""


class MissingExtra(RedisMetricsError, ImportError):
    """An optional package is not installed. The message has the command that installs it."""


def no_such_metric(name: str, namespace: str) -> RedisMetricsError:
    """Return the error of a command about a metric that does not exist."""
    return RedisMetricsError(
        f"no metric {name!r} in namespace {namespace!r}; `redismetrics list` prints all metrics"
    )


def one_line(error: BaseException) -> str:
    """Return the message of *error* on one line, or the name of its class if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def shown(value: object, length: int = 60) -> str:
    """Return ``repr(value)`` for a message, truncated to *length*. Unlike `repr`, never raises."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - a caller's class may raise any
        if isinstance(value, int):  # Python refuses to print more than 4,300 digits
            return f"<{type(value).__name__} of {int.bit_length(value)} bits>"
        text = f"<{type(value).__name__} whose repr raises {type(error).__name__}>"
    return text.encode(errors="backslashreplace").decode()[:length]
