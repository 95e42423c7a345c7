"""Settings of a client: name, unit, default and environment variable of each.

An argument has precedence over the environment variable REDISMETRICS_<NAME>, which has precedence
over the default.
"""

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, Literal

from redismetrics.model.retention import RetentionPolicy
from redismetrics.model.safe_url import safe_url
from redismetrics.model.validation import check_name, check_number, clean_tags, did_you_mean

from .errors import InvalidMetric, InvalidSetting, shown

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

_BOOLEANS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(
    ("false", "0", "no", "off"), False
)
_TEXTS = ("url", "archive", "archive_schema", "archive_prefix")
_ARCHIVES = ("postgresql://", "postgres://", "clickhouse://", "file://")
_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")


def _setting(
    default: Any, unit: str, text: str, least: float | None = None, most: float = math.inf
) -> Any:
    metadata = {"unit": unit, "text": text, "least": least, "most": most}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """All settings of one client, validated. Use `resolve` to create them.

    The metadata of each field holds its unit, its limits and the text of its row in
    docs/settings.md.
    """

    url: str | None = _setting(None, "", "the server; see [server URL](#server-url)")
    namespace: str = _setting("default", "", "the namespace that this client reads and writes")
    tags: Mapping[str, str] = _setting({}, "", "tags added to every sample")
    on_invalid: OnInvalid = _setting(
        "raise",
        "",
        "what to do with invalid values, tags and times: `raise`, or `drop` and count them",
    )
    promoted_tags: tuple[str, ...] = _setting(
        DEFAULT_PROMOTED, "", "metadata keys that also become tags"
    )
    worker: bool | None = _setting(
        None,
        "",
        "run a worker in a thread of this process; the default is to do so only with the "
        "embedded server",
    )
    flush_interval: float = _setting(1.0, "s", "how often recorded samples are sent", 0.01)
    socket_timeout: float = _setting(2.0, "s", "how long to wait for a connection or a reply", 0.01)
    samples_per_flush: int = _setting(
        100,
        "samples",
        "samples kept per series and flush; if there are more, they are compressed to a "
        "summary and a t-digest of this size",
        20,
        10_000,
    )
    buffer_bytes: int = _setting(
        64 << 20, "bytes", "memory for unsent samples while Redis is unreachable", 1 << 16
    )
    buffer_age: float = _setting(3600.0, "s", "how long unsent samples are kept", 1)
    max_age: float = _setting(
        86_400.0, "s", "older samples are rejected; at most `minute_retention` minus one hour", 1
    )
    max_future: float = _setting(
        300.0, "s", "samples further in the future are rejected; at most one day", 1, 86_400
    )
    max_series: int = _setting(
        10_000,
        "series",
        "series per metric; additional ones are merged into the overflow series",
        1,
    )
    max_tag_values: int = _setting(
        1_000,
        "values",
        "values per tag of a metric; series with additional values are merged into the "
        "overflow series",
        1,
    )
    log_bytes: int = _setting(
        64 << 20,
        "bytes",
        "maximum size of a metric's log; beyond it, the oldest blocks are cut",
        1 << 16,
    )
    log_age: float = _setting(86_400.0, "s", "maximum age of blocks in a metric's log", 60)
    raw_retention: float = _setting(
        86_400.0, "s", "how long exact samples are kept, with their times and metadata", 3600
    )
    minute_retention: float = _setting(3 * 86_400.0, "s", "how long minutes are kept", 2 * 3600)
    hour_retention: float = _setting(90 * 86_400.0, "s", "how long hours are kept", 3600)
    day_retention: float = _setting(
        5 * 365 * 86_400.0, "s", "how long days are kept", 3600, 100 * 366 * 86_400
    )
    exact_bytes: int = _setting(
        256 << 20,
        "bytes",
        "limit on the exact samples kept for one metric with the option `exact_samples`; "
        "beyond it, minutes with more than 100 samples of a series are compressed as usual",
        1 << 16,
    )
    cache_bytes: int = _setting(
        32 << 20, "bytes", "memory for decoded data that later queries reuse", 0
    )
    series_idle: float = _setting(
        86_400.0,
        "s",
        "a series that has not been recorded for this long is removed from the Prometheus page",
        1,
    )

    archive: str | None = _setting(
        None,
        "",
        "an [archive](archive.md#questions-go-on-in-the-archive) that queries read for the "
        "part of a window that is older than the data in Redis",
    )
    archive_schema: str | None = _setting(
        None,
        "",
        "the schema of the archive's tables in PostgreSQL, or their database in ClickHouse; the "
        "default is that of the connection",
    )
    archive_prefix: str = _setting(
        "rm_", "", "the prefix of the archive's tables in PostgreSQL and ClickHouse"
    )

    def __repr__(self) -> str:
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        for name in ("url", "archive"):
            if values[name] is not None:
                values[name] = safe_url(values[name])
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in values.items())})"


def resolve(environ: Mapping[str, str] | None = None, **given: Any) -> Settings:
    """Return the settings from the arguments (None: not given), the environment and the defaults.

    Raises:
        InvalidSetting: If a setting has an invalid value, or its name is unknown.
    """
    environ = os.environ if environ is None else environ
    values = {}
    for setting in fields(Settings):
        value = given.pop(setting.name, None)
        source = setting.name
        if value is None:
            source = f"REDISMETRICS_{setting.name.upper()}"
            value = environ.get(source) or None
        if value is not None:
            values[setting.name] = _checked(setting, source, value)
    for name in sorted(given):
        hint = did_you_mean(name, [setting.name for setting in fields(Settings)])
        raise InvalidSetting(f"unknown setting {name!r}{hint}")
    settings = Settings(**values)
    _check_retentions(settings)
    return settings


def retention_policy(settings: Settings) -> RetentionPolicy:
    """Return the retention policy of these settings."""
    return RetentionPolicy.of(
        settings.raw_retention,
        settings.minute_retention,
        settings.hour_retention,
        settings.day_retention,
    )


def _check_retentions(settings: Settings) -> None:
    names = ("raw_retention", "minute_retention", "hour_retention", "day_retention")
    for finer, coarser in pairwise(names):
        least, value = getattr(settings, finer), getattr(settings, coarser)
        if least > value:
            raise InvalidSetting(f"{coarser} must be at least {finer} ({least:g} s), got {value:g}")
    most = settings.minute_retention - 3600
    if settings.max_age > most:
        raise InvalidSetting(
            f"max_age must be at most minute_retention minus one hour ({most:g} s), "
            f"because samples are stored by minute, got {settings.max_age:g}"
        )


def _checked(setting: Any, source: str, value: Any) -> Any:
    if setting.metadata["least"] is not None:
        return _check_limits(setting, source, value)
    if setting.name == "tags":
        try:
            return clean_tags(_read_tags(source, value) if isinstance(value, str) else value)
        except InvalidMetric as error:
            raise InvalidSetting(_from(source, "tags", error)) from error
    if setting.name == "promoted_tags":
        return _check_tag_keys(source, value)
    if setting.name == "namespace" and not (isinstance(value, str) and _NAMESPACE.match(value)):
        raise InvalidSetting(
            f"{source} must be 1 to 64 characters of A-Z a-z 0-9 _ . -, got {shown(value, 80)}"
        )
    if setting.name == "on_invalid" and not (isinstance(value, str) and value in ("raise", "drop")):
        hint = did_you_mean(value, ("raise", "drop"))
        raise InvalidSetting(f"{source} must be 'raise' or 'drop', got {shown(value, 80)}{hint}")
    if setting.name == "worker":
        return _check_boolean(source, value)
    if setting.name in _TEXTS and not isinstance(value, str):
        raise InvalidSetting(f"{source} must be text, got {type(value).__name__}")
    if setting.name == "archive" and not value.startswith(_ARCHIVES):
        raise InvalidSetting(
            f"{source} must be postgresql://..., clickhouse://... or file:///folder, "
            f"got {safe_url(value)!r}"
        )
    return value


def _check_boolean(source: str, value: Any) -> bool:
    found = _BOOLEANS.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise InvalidSetting(f"{source} must be true or false, got {shown(value, 80)}")
    return found


def _check_limits(setting: Any, source: str, value: Any) -> float | int:
    least, most, unit = (setting.metadata[key] for key in ("least", "most", "unit"))
    is_whole = setting.type is int
    try:
        number = float(value) if isinstance(value, str) else check_number(value)
    except ValueError:  # also `InvalidValue`
        number = math.nan
    if least <= number <= most and number < math.inf and not (is_whole and number != int(number)):
        return int(number) if is_whole else number
    kind = "a whole number" if is_whole else "a number"
    limits = f"from {least:.15g}" + (f" to {most:.15g}" if most < math.inf else "")
    raise InvalidSetting(
        f"{source} must be {kind} of {'seconds' if unit == 's' else unit} {limits}, "
        f"got {shown(value, 80)}"
    )


def _check_tag_keys(source: str, value: Any) -> tuple[str, ...]:
    keys: Iterable[Any] = value
    if isinstance(value, str):
        keys = [part.strip() for part in value.split(",")]
    try:
        return tuple(check_name(key, "tag key") for key in keys)
    except TypeError as error:
        raise InvalidSetting(
            f"{source} must be a list of tag keys, got {shown(value, 80)}"
        ) from error
    except InvalidMetric as error:
        raise InvalidSetting(_from(source, "promoted_tags", error)) from error


def _read_tags(source: str, text: str) -> dict[str, str]:
    tags = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals:
            raise InvalidSetting(f"{source} must be key=value,key=value, got {shown(text, 80)}")
        tags[key.strip()] = value.strip()
    return tags


def _from(source: str, name: str, error: Exception) -> str:
    """Return the message of *error*, preceded by its *source* unless the message names it."""
    return str(error) if source == name == str(error).split(" ")[0] else f"{source}: {error}"
