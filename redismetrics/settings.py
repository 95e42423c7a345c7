"""Every setting: name, unit, default, environment variable. An argument comes before REDISMETRICS_<NAME> before the default."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, Literal

from redismetrics.model.retention import RetentionPolicy
from redismetrics.model.validation import check_name, clean_tags

from .errors import InvalidMetric, InvalidSetting

OnInvalid = Literal["raise", "drop"]

DEFAULT_PROMOTED = (
    "tenant",
    "model",
    "dataset",
    "experiment_id",
    "queue",
    "endpoint",
    "method",
    "status",
    "stage",
)

_TRUTHS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(
    ("false", "0", "no", "off"), False
)
_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")


def _setting(
    default: Any, unit: str, text: str, least: float | None = None, most: float = math.inf
) -> Any:
    return field(
        default=default, metadata={"unit": unit, "text": text, "least": least, "most": most}
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one client, checked. `resolve` makes one; the docs print the table from the fields."""

    url: str | None = _setting(None, "", "where the store is; without it see the embedded default")
    namespace: str = _setting(
        "default", "", "the share of the store that this client writes and reads"
    )
    tags: Mapping[str, str] = field(
        default_factory=dict,
        metadata={"unit": "", "text": "tags added to every sample", "least": None},
    )
    on_invalid: OnInvalid = _setting(
        "raise", "", "raise, or drop and count, faults that depend on data"
    )
    promoted_tags: tuple[str, ...] = _setting(
        DEFAULT_PROMOTED, "", "metadata keys that become tags"
    )
    worker: bool | None = _setting(
        None,
        "",
        "seal and roll up in a thread of this process; by default with the embedded server only",
    )
    flush_interval: float = _setting(1.0, "s", "how often recorded samples are sent", 0.01)
    socket_timeout: float = _setting(2.0, "s", "how long to wait for a connection or a reply", 0.01)
    samples_per_flush: int = _setting(
        100, "samples", "a series with more in one flush is compacted to so many", 20, 10_000
    )
    buffer_bytes: int = _setting(
        64 << 20, "bytes", "unsent samples kept while Redis is away", 1 << 16
    )
    buffer_age: float = _setting(3600.0, "s", "how long unsent samples are kept", 1)
    max_age: float = _setting(86_400.0, "s", "older samples are refused", 1)
    max_future: float = _setting(
        300.0, "s", "samples from further in the future are refused", 1, 86_400
    )
    max_series: int = _setting(
        10_000, "series", "of one metric; the rest share an overflow series", 1
    )
    max_tag_values: int = _setting(
        1_000,
        "values",
        "of one tag of a metric; series with further ones share the overflow series",
        1,
    )
    log_bytes: int = _setting(
        64 << 20, "bytes", "of one metric's log; the oldest blocks are cut beyond it", 1 << 16
    )
    log_age: float = _setting(86_400.0, "s", "how long the log of a metric is kept", 60)
    raw_retention: float = _setting(
        86_400.0, "s", "how long exact samples are kept, with times and metadata", 3600
    )
    minute_retention: float = _setting(3 * 86_400.0, "s", "how long minutes are kept", 2 * 3600)
    hour_retention: float = _setting(90 * 86_400.0, "s", "how long hours are kept", 3600)
    day_retention: float = _setting(
        5 * 365 * 86_400.0, "s", "how long days are kept", 3600, 100 * 366 * 86_400
    )
    cache_bytes: int = _setting(
        32 << 20, "bytes", "of what was read and decoded, kept for the next question", 0
    )
    series_idle: float = _setting(
        86_400.0, "s", "a series not recorded for so long leaves the Prometheus page", 1
    )


def resolve(environ: Mapping[str, str] | None = None, **given: Any) -> Settings:
    """Return the settings from arguments (None means not given), environment and defaults.

    Raises:
        InvalidSetting: names the setting, what was wanted and what was given.
    """
    environ = os.environ if environ is None else environ
    values = {}
    for setting in fields(Settings):
        value = given.pop(setting.name, None)
        where = setting.name
        if value is None:
            where = f"REDISMETRICS_{setting.name.upper()}"
            value = environ.get(where) or None
        if value is not None:
            values[setting.name] = _checked(setting, where, value)
    if given:
        raise InvalidSetting(f"unknown settings: {', '.join(sorted(given))}")
    settings = Settings(**values)
    _check_retentions(settings)
    return settings


def retention_policy(settings: Settings) -> RetentionPolicy:
    """What these settings want kept for how long."""
    return RetentionPolicy.of(
        settings.raw_retention,
        settings.minute_retention,
        settings.hour_retention,
        settings.day_retention,
    )


def _check_retentions(settings: Settings) -> None:
    names = ("raw_retention", "minute_retention", "hour_retention", "day_retention")
    for finer, coarser in pairwise(names):
        if getattr(settings, finer) > getattr(settings, coarser):
            raise InvalidSetting(
                f"{coarser}: wanted at least {finer}, {getattr(settings, finer):g} s, got {getattr(settings, coarser):g}"
            )
    if settings.max_age + 3600 > settings.minute_retention:
        raise InvalidSetting(
            f"max_age: wanted at most minute_retention less an hour, {settings.minute_retention - 3600:g} s, since samples "
            f"enter by their minute, got {settings.max_age:g}"
        )


def _checked(setting: Any, where: str, value: Any) -> Any:
    least = setting.metadata["least"]
    if least is not None:
        return _number(where, value, least, setting.metadata["most"], whole=setting.type is int)
    if setting.name == "tags":
        try:
            return clean_tags(_pairs(where, value) if isinstance(value, str) else value)
        except InvalidMetric as error:
            raise InvalidSetting(f"{where}: {error}") from error
    if setting.name == "promoted_tags":
        return _keys(where, value)
    if setting.name == "namespace" and not (isinstance(value, str) and _NAMESPACE.match(value)):
        raise InvalidSetting(f"{where}: wanted 1 to 64 of A-Z a-z 0-9 _ . -, got {value!r:.80}")
    if setting.name == "on_invalid" and value not in ("raise", "drop"):
        raise InvalidSetting(f"{where}: wanted 'raise' or 'drop', got {value!r:.80}")
    if setting.name == "worker":
        return _truth(where, value)
    if setting.name == "url" and not isinstance(value, str):
        raise InvalidSetting(f"{where}: wanted text, got {type(value).__name__}")
    return value


def _truth(where: str, value: Any) -> bool:
    found = _TRUTHS.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise InvalidSetting(f"{where}: wanted true or false, got {value!r:.80}")
    return found


def _number(where: str, value: Any, least: float, most: float, *, whole: bool) -> float | int:
    wanted = f"wanted a {'whole ' if whole else ''}number from {least:g}" + (
        f" to {most:g}" if most < math.inf else ""
    )
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidSetting(f"{where}: {wanted}, got {value!r:.80}") from error
    if not (math.isfinite(number) and least <= number <= most) or (whole and number != int(number)):
        raise InvalidSetting(f"{where}: {wanted}, got {value!r:.80}")
    return int(number) if whole else number


def _keys(where: str, value: Any) -> tuple[str, ...]:
    try:
        keys = (
            [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value)
        )
        return tuple(check_name(key, "tag key") for key in keys)
    except TypeError as error:
        raise InvalidSetting(f"{where}: wanted several tag keys, got {value!r:.80}") from error
    except InvalidMetric as error:
        raise InvalidSetting(f"{where}: {error}") from error


def _pairs(where: str, text: str) -> dict[str, str]:
    pairs = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals:
            raise InvalidSetting(f"{where}: wanted key=value,key=value, got {text!r:.80}")
        pairs[key.strip()] = value.strip()
    return pairs
