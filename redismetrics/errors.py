"""
Every error redismetrics raises, by what to do next.

    RedisMetricsError
    ├── InvalidMetric (ValueError)    fix the call       InvalidName, InvalidTags, InvalidValue, InvalidTimestamp, TypeMismatch
    ├── InvalidQuery (ValueError)     fix the question   UnknownWindow, UnknownAggregation, OutsideRetention, TooManyRows
    ├── InvalidSetting (ValueError)   fix the settings
    ├── StoreError                    look at Redis      StoreUnavailable (safe to repeat), FormatMismatch, ScriptFailed
    └── MissingExtra (ImportError)    install it

A message says which, what was wanted and what was given, and never holds a password.
"""


class RedisMetricsError(Exception):
    """The root of all errors of this package."""


class InvalidMetric(RedisMetricsError, ValueError):
    """A recording call is wrong; nothing was recorded."""


class InvalidName(InvalidMetric):
    """A metric name or a tag key is outside the allowed characters or too long."""


class InvalidTags(InvalidMetric):
    """Tags or metadata that cannot be kept: too many, too long, or of a type with no text."""


class InvalidValue(InvalidMetric):
    """A value that is no finite number, or a negative amount for a counter."""


class InvalidTimestamp(InvalidMetric):
    """A time without a zone, negative, or not a number."""


class TypeMismatch(InvalidMetric):
    """A metric is used as another type, or declared differently, than it is known."""


class InvalidQuery(RedisMetricsError, ValueError):
    """A question is wrong; nothing was read."""


class UnknownWindow(InvalidQuery):
    """A window or an interval that is not understood."""


class UnknownAggregation(InvalidQuery):
    """An aggregation that does not exist."""


class OutsideRetention(InvalidQuery):
    """The interval is finer than what the window still holds."""


class TooManyRows(InvalidQuery):
    """The answer would have more rows than whoever asks for others allows: see docs/http.md."""


class InvalidSetting(RedisMetricsError, ValueError):
    """A setting, argument or environment variable is not usable."""


class StoreError(RedisMetricsError):
    """Something about Redis, not about the call."""


class StoreUnavailable(StoreError):
    """Redis did not answer in time. Safe to repeat: a batch counts once however often it is sent."""


class FormatMismatch(StoreError):
    """Bytes in Redis that this version cannot read: written by another version, or damaged."""


class ScriptFailed(StoreError):
    """Redis refused a command: missing rights, out of memory, a key of another type."""


class MissingExtra(RedisMetricsError, ImportError):
    """An optional package is not installed; the message has the command that installs it."""


def one_line(error: BaseException) -> str:
    """Return the message of *error* on one line; the name of its class if it has none."""
    return " ".join(str(error).split()) or type(error).__name__
