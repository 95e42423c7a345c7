"""Settings: precedence of arguments and environment, and errors that name the setting."""

import math
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.errors import InvalidSetting
from redismetrics.settings import DEFAULT_PROMOTED, Settings, resolve

NAMES = [setting.name for setting in fields(Settings)]

# name, text in the environment, what that is, an argument, what that is
GOOD: list[tuple[str, str, Any, Any, Any]] = [
    ("url", "redis://a:1/0", "redis://a:1/0", "unix:///b", "unix:///b"),
    ("namespace", "prod", "prod", "A.b_c-9", "A.b_c-9"),
    ("tags", "host=a, zone = b=c", {"host": "a", "zone": "b=c"}, {"n": 5, "x": None}, {"n": "5"}),
    ("on_invalid", "drop", "drop", "raise", "raise"),
    ("promoted_tags", "tenant, job_id", ("tenant", "job_id"), ["queue"], ("queue",)),
    ("worker", "Yes", True, False, False),
    ("flush_interval", "0.5", 0.5, 2, 2.0),
    ("socket_timeout", "0.1", 0.1, 3, 3.0),
    ("samples_per_flush", "20", 20, 10_000, 10_000),
    ("buffer_bytes", "65536", 65_536, 1e6, 1_000_000),
    ("buffer_age", "1", 1.0, 7200, 7200.0),
    ("max_age", "60", 60.0, 3600.5, 3600.5),
    ("max_future", "1", 1.0, 10, 10.0),
    ("max_series", "1", 1, 5, 5),
    ("max_tag_values", "1", 1, 5, 5),
    ("log_bytes", "65536", 65_536, 1 << 20, 1 << 20),
    ("log_age", "60", 60.0, 120, 120.0),
    ("raw_retention", "3600", 3600.0, 7200, 7200.0),
    ("minute_retention", "90000", 90_000.0, 100_000, 100_000.0),
    ("hour_retention", "259200", 259_200.0, 300_000, 300_000.0),
    ("day_retention", "7776000", 7_776_000.0, 8e6, 8_000_000.0),
    ("exact_bytes", "65536", 65_536, 1e6, 1_000_000),
    ("cache_bytes", "0", 0, 1e6, 1_000_000),
    ("series_idle", "1", 1.0, 2, 2.0),
    ("archive", "postgresql://db/m", "postgresql://db/m", "file:///srv/m", "file:///srv/m"),
    ("archive_schema", "metrics", "metrics", "M", "M"),
    ("archive_prefix", "x_", "x_", "y", "y"),
]

BAD: list[tuple[str, Any]] = [
    ("url", 5),
    *(("namespace", value) for value in ("a b", "a/b", "x" * 65, "ä", "a\n", "{a}", 5)),
    *(("tags", value) for value in ("host", "a b=c", {"a": []}, {"": "x"}, 5)),
    *(("on_invalid", value) for value in ("ignore", True)),
    *(("promoted_tags", value) for value in (5, [5], ["a b"], "tenant,,queue", True)),
    *(("worker", value) for value in ("maybe", 1, [])),
    *(
        ("flush_interval", value)
        for value in (0, -1, 0.001, "soon", math.nan, math.inf, [], 10**400)
    ),
    ("socket_timeout", 0),
    *(("samples_per_flush", value) for value in (19, 10_001, 20.5, "20.5")),
    ("buffer_bytes", 65_535),
    ("buffer_age", 0.5),
    ("max_age", 0),
    ("max_future", 0),
    *(("max_series", value) for value in (0, 1.5, "many")),
    *(("max_tag_values", value) for value in (0, 1.5, "many")),
    ("log_bytes", 0),
    ("log_age", 59),
    ("raw_retention", 3599),
    *(("minute_retention", value) for value in (7199, 3600)),
    *(("hour_retention", value) for value in (3599, 2 * 86_400)),
    *(("day_retention", value) for value in (3599, 86_400, 101 * 366 * 86_400)),
    ("cache_bytes", -1),
    ("exact_bytes", 1_000),
    ("series_idle", 0),
    *(("archive", value) for value in (5, "mysql://db", "/srv/m", "redis://h")),
    ("archive_schema", 5),
    ("archive_prefix", 5),
]


# What follows the name of a setting in the message about a wrong value of it.
PROBLEM = r"((: tag '\w+')? must (be|have) .*, got |: invalid tag key .*: use )"
ROOT = Path(__file__).parents[1]


def test_the_tables_of_this_file_name_every_setting() -> None:
    assert [row[0] for row in GOOD] == NAMES
    assert {row[0] for row in BAD} == set(NAMES)


def test_the_settings_page_has_the_defaults_units_and_texts_of_the_code() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    rows = re.findall(
        r"^\| `(\w+)` \| `REDISMETRICS_(\w+)` \| (.*) \| (.*) \| (.*) \|$", text, re.MULTILINE
    )
    assert rows == [
        (
            setting.name,
            setting.name.upper(),
            shown(getattr(resolve({}), setting.name)),
            setting.metadata["unit"],
            setting.metadata["text"],
        )
        for setting in fields(Settings)
    ]


def shown(default: Any) -> str:
    """Return a default as the page about settings writes it."""
    if default is None or default == {}:
        return "none"
    if isinstance(default, tuple):
        return ", ".join(default)
    return f"{default:,}" if isinstance(default, int | float) else default


def test_the_defaults_are_those_of_the_documents() -> None:
    settings = resolve({})
    assert (settings.url, settings.namespace, settings.tags, settings.on_invalid) == (
        None,
        "default",
        {},
        "raise",
    )
    assert settings.promoted_tags == DEFAULT_PROMOTED
    assert (settings.flush_interval, settings.socket_timeout, settings.samples_per_flush) == (
        1,
        2,
        100,
    )
    assert (settings.buffer_bytes, settings.buffer_age) == (64 * 2**20, 3600)
    assert (settings.max_age, settings.max_future, settings.series_idle) == (
        24 * 3600,
        300,
        24 * 3600,
    )


@pytest.mark.parametrize(
    ("name", "text", "from_text", "argument", "from_argument"), GOOD, ids=NAMES
)
def test_arguments_override_the_environment_which_overrides_defaults(
    name: str, text: str, from_text: Any, argument: Any, from_argument: Any
) -> None:
    environ = {f"REDISMETRICS_{name.upper()}": text}
    default = getattr(resolve({}), name)
    assert getattr(resolve(environ), name) == from_text != default
    assert getattr(resolve(environ, **{name: argument}), name) == from_argument
    assert getattr(resolve(environ, **{name: None}), name) == from_text
    assert getattr(resolve({f"REDISMETRICS_{name.upper()}": ""}), name) == default
    assert type(getattr(resolve(environ), name)) is type(from_text)


def test_a_client_reads_the_environment_of_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDISMETRICS_NAMESPACE", "from_environment")
    monkeypatch.setenv("REDISMETRICS_MAX_SERIES", "7")
    settings = Metrics("none://", max_series=8).settings
    assert (settings.namespace, settings.max_series) == ("from_environment", 8)


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda value: repr(value)[:30])
def test_an_invalid_argument_is_named_and_shown(name: str, value: Any) -> None:
    with pytest.raises(InvalidSetting, match=rf"^{name}{PROBLEM}") as caught:
        resolve({}, **{name: value})
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("name", "text"),
    [row for row in BAD if isinstance(row[1], str)],
    ids=lambda value: repr(value)[:30],
)
def test_an_invalid_environment_variable_is_named(name: str, text: str) -> None:
    with pytest.raises(InvalidSetting, match=rf"^REDISMETRICS_{name.upper()}{PROBLEM}"):
        resolve({f"REDISMETRICS_{name.upper()}": text})


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"raw_retention": 4 * 86_400}, "minute_retention"),
        ({"minute_retention": 91 * 86_400}, "hour_retention"),
        ({"hour_retention": 6 * 365 * 86_400}, "day_retention"),
        ({"minute_retention": 86_400}, "max_age"),
        ({"max_age": 3 * 86_400}, "max_age"),
    ],
)
def test_coarser_resolutions_must_be_kept_longer(given: dict[str, float], wrong: str) -> None:
    with pytest.raises(InvalidSetting, match=rf"^{wrong} must be at (least|most) .*, got "):
        resolve({}, **given)


def test_an_unknown_setting_is_rejected() -> None:
    with pytest.raises(InvalidSetting, match="retention_hours"):
        resolve({}, retention_hours=24)
    with pytest.raises(TypeError, match="retention_hours"):
        Metrics("none://", retention_hours=24)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "url", ["http://localhost", "localhost:6379", "", "redis://localhost:port", "sqlite:///a"]
)
def test_an_unsupported_url_is_rejected_when_the_client_is_created(url: str) -> None:
    with pytest.raises(InvalidSetting, match=r"^url must .*redis://"):
        Metrics(url)
