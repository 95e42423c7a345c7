"""The parameters of Prometheus' HTTP API. As in Prometheus, unknown ones are ignored."""

from collections.abc import Callable

from redismetrics.api.parameters import Parameter
from redismetrics.errors import InvalidQuery, shown

from .values import read_duration, read_time

_TIME = {"anyOf": [{"type": "number"}, {"type": "string"}]}
_DURATION = {"anyOf": [{"type": "number"}, {"type": "string"}]}
_TEXT = {"type": "string"}
_WHOLE = {"type": "integer", "minimum": 0}


def _time(name: str, help: str, *, required: bool = False) -> Parameter:
    return Parameter(name, help, _TIME, lambda text: read_time(text, name), required=required)


def _duration(name: str, help: str, *, required: bool = False) -> Parameter:
    def read(text: str) -> int:
        return read_duration(text, name)

    return Parameter(name, help, _DURATION, read, required=required)


def _whole(name: str) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise InvalidQuery(
                f'invalid parameter "{name}": {name} must be a whole number of at least 0, '
                f"got {shown(text, 80)}"
            )
        return int(text)

    return read


QUERY = Parameter("query", "The expression.", _TEXT, required=True)
TIME = _time("time", "When to evaluate: Unix seconds or RFC 3339 (default: now).")
START = _time("start", "Start of the range: Unix seconds or RFC 3339.")
END = _time("end", "End of the range, inclusive.")
RANGE_START = _time("start", "Earliest time: Unix seconds or RFC 3339.", required=True)
RANGE_END = _time("end", "Latest time.", required=True)
STEP = _duration("step", "Time between points: seconds, or a duration such as 1m.", required=True)
TIMEOUT = _duration("timeout", "Timeout of the evaluation in seconds, at most this server's.")
LOOKBACK = _duration("lookback_delta", "Maximum age of a sample (default: the metric's, or 5m).")
LIMIT = Parameter("limit", "Maximum number of series or names; 0: all.", _WHOLE, _whole("limit"))
LIMIT_PER_METRIC = Parameter(
    "limit_per_metric", "Maximum number of entries per metric.", _WHOLE, _whole("limit_per_metric")
)
_MATCH_HELP = "A selector; may be repeated, to match any of them."
METRIC = Parameter("metric", "Only this metric.", _TEXT)
MATCH = Parameter("match[]", _MATCH_HELP, _TEXT, repeats=True)
REQUIRED_MATCH = Parameter("match[]", _MATCH_HELP, _TEXT, repeats=True, required=True)
LABEL = Parameter("name", "The label.", _TEXT, required=True, is_in_path=True)
