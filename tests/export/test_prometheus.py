"""The Prometheus page as its readers see it: both Python parsers, promtool and a real server."""

import asyncio
import json
import math
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.util import setup_testing_defaults

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from redismetrics.errors import FormatMismatch, InvalidSetting, StoreUnavailable
from redismetrics.export import asgi_app, content_type, export, negotiate, wsgi_app
from redismetrics.export.__main__ import main
from redismetrics.exposition.families import Family, SeriesState
from redismetrics.exposition.text import render
from redismetrics.model.definition import define
from redismetrics.model.validation import MetricType

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed (Debian package: prometheus)",
)
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="prometheus is not installed (Debian package: prometheus)",
)

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def counter(name: str, *series: tuple[dict[str, str], float], **options: Any) -> Family:
    return Family(
        name,
        define(name, "counter", **options),
        [SeriesState(tags, 0, value) for tags, value in series],
    )


def gauge(name: str, *series: tuple[dict[str, str], float], **options: Any) -> Family:
    return Family(
        name,
        define(name, "gauge", **options),
        [SeriesState(tags, 0, value) for tags, value in series],
    )


def histogram(name: str, *series: tuple[dict[str, str], Sequence[float]], **options: Any) -> Family:
    """A family from the values themselves; a bucket holds those up to and with its bound."""
    definition = define(name, "histogram", **options)
    lower = (-math.inf, *definition.buckets)
    made = []
    for tags, values in series:
        buckets = tuple(
            sum(low < value <= high for value in values)
            for low, high in zip(lower, definition.buckets, strict=False)
        )
        made.append(SeriesState(tags, 0, math.fsum(values), len(values), buckets))
    return Family(name, definition, made)


class FakeMetrics:
    """What the ways out need of `redismetrics.Metrics`."""

    def __init__(self, families: Sequence[Family] = (), error: Exception | None = None) -> None:
        self.families = families
        self.error = error
        self.asked: list[str | None] = []
        self.threads: list[threading.Thread] = []
        self.closed = False

    def live(self, name: str | None = None) -> list[Family]:
        self.asked.append(name)
        self.threads.append(threading.current_thread())
        if self.error is not None:
            raise self.error
        return [family for family in self.families if name in (None, family.name)]

    def self_metrics(self) -> list[Family]:
        return []

    def close(self) -> None:
        self.closed = True


def of_users(page: str) -> str:
    """The page without what redismetrics says of itself."""
    own = re.compile(r"(# (HELP|TYPE|UNIT) )?redismetrics_")
    return "".join(line for line in page.splitlines(keepends=True) if not own.match(line))


# -- readers


def read(page: str, openmetrics: bool) -> dict[str, Any]:
    """Return the families of *page* by name; each name may come once."""
    families = list((parse_openmetrics if openmetrics else parse_text)(page))
    assert len({family.name for family in families}) == len(families)
    return {family.name: family for family in families}


def samples(page: str, openmetrics: bool) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    read_samples = [
        sample for family in read(page, openmetrics).values() for sample in family.samples
    ]
    found = {
        (sample.name, frozenset(sample.labels.items())): float(sample.value)
        for sample in read_samples
    }
    assert len(found) == len(read_samples)
    return found


def one_label(
    tags: dict[str, str], kind: MetricType, openmetrics: bool = False
) -> list[dict[str, str]]:
    """The label sets of a family with one series of these tags; a histogram's `le` taken off."""
    values: dict[MetricType, Family] = {
        "counter": counter("m", (tags, 1)),
        "gauge": gauge("m", (tags, 1)),
        "histogram": histogram("m", (tags, [1.0])),
    }
    family = read(render([values[kind]], openmetrics=openmetrics), openmetrics)["m"]
    found: list[dict[str, str]] = []
    for sample in family.samples:
        labels = {
            key: value for key, value in sample.labels.items() if key != "le" or kind != "histogram"
        }
        if labels not in found:
            found.append(labels)
    return found


def promtool(page: str) -> tuple[int, str]:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=page.encode(), capture_output=True, check=False
    )
    return done.returncode, (done.stdout + done.stderr).decode()


# -- the page


MIXED = [
    gauge("queue.depth", ({"queue": "mail"}, 7), ({"queue": "audio"}, -2.5)),
    counter("jobs_completed", ({}, 41), ({"status": 'a "b"\\c\nd'}, 2.0**53)),
    histogram(
        "run_seconds", ({"model": "llama-3.1"}, [0.05, 0.1, 0.7, 20.0]), unit="seconds", help='How "long"\\\nit took',
        buckets=(0.1, 1.0),
    ),
    counter("bytes_sent_total", ({}, 0.5), help="Bytes sent", unit="bytes"),
    gauge("idle"),
]  # fmt: skip


def test_a_mixed_page_in_text_0_0_4() -> None:
    assert render(MIXED) == textwrap.dedent(r"""
        # HELP bytes_sent_total Bytes sent
        # TYPE bytes_sent_total counter
        bytes_sent_total 0.5
        # HELP jobs_completed_total Jobs completed
        # TYPE jobs_completed_total counter
        jobs_completed_total 41
        jobs_completed_total{status="a \"b\"\\c\nd"} 9007199254740992.0
        # HELP queue_depth Queue depth
        # TYPE queue_depth gauge
        queue_depth{queue="audio"} -2.5
        queue_depth{queue="mail"} 7
        # HELP run_seconds How "long"\\\nit took
        # TYPE run_seconds histogram
        run_seconds_bucket{model="llama-3.1",le="0.1"} 2
        run_seconds_bucket{model="llama-3.1",le="1.0"} 3
        run_seconds_bucket{model="llama-3.1",le="+Inf"} 4
        run_seconds_sum{model="llama-3.1"} 20.85
        run_seconds_count{model="llama-3.1"} 4
    """).lstrip("\n")


def test_a_mixed_page_in_openmetrics() -> None:
    assert render(MIXED, openmetrics=True) == textwrap.dedent(r"""
        # TYPE bytes_sent counter
        # HELP bytes_sent Bytes sent
        bytes_sent_total 0.5
        # TYPE jobs_completed counter
        # HELP jobs_completed Jobs completed
        jobs_completed_total 41
        jobs_completed_total{status="a \"b\"\\c\nd"} 9007199254740992.0
        # TYPE queue_depth gauge
        # HELP queue_depth Queue depth
        queue_depth{queue="audio"} -2.5
        queue_depth{queue="mail"} 7
        # TYPE run_seconds histogram
        # UNIT run_seconds seconds
        # HELP run_seconds How \"long\"\\\nit took
        run_seconds_bucket{model="llama-3.1",le="0.1"} 2
        run_seconds_bucket{model="llama-3.1",le="1.0"} 3
        run_seconds_bucket{model="llama-3.1",le="+Inf"} 4
        run_seconds_sum{model="llama-3.1"} 20.85
        run_seconds_count{model="llama-3.1"} 4
        # EOF
    """).lstrip("\n")


def test_both_formats_carry_the_same_samples_and_help() -> None:
    text, strict = render(MIXED), render(MIXED, openmetrics=True)
    assert samples(text, False) == samples(strict, True)
    assert len(samples(text, False)) == 10
    assert read(text, False)["run_seconds"].documentation == 'How "long"\\\nit took'
    assert read(strict, True)["run_seconds"].documentation == 'How "long"\\\nit took'
    assert read(strict, True)["run_seconds"].unit == "seconds"


def test_nothing_is_an_empty_page() -> None:
    assert render([]) == render([gauge("idle")]) == ""
    assert render([], openmetrics=True) == render([gauge("idle")], openmetrics=True) == "# EOF\n"


@needs_promtool
def test_promtool_has_nothing_to_say_of_an_ordinary_page() -> None:
    assert promtool(render(MIXED)) == (0, "")


@needs_promtool
def test_promtool_can_refuse() -> None:
    assert promtool("jobs-completed 1\n")[0] == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-0.0, "0"),
        (3.0, "3"),
        (-3, "-3"),
        (2.0**53 - 1, "9007199254740991"),
        (2.0**53, "9007199254740992.0"),
        (1e22, "1e+22"),
        (0.1, "0.1"),
        (5e-324, "5e-324"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert render([gauge("m", ({}, value))]).splitlines()[-1] == f"m {text}"


@pytest.mark.parametrize(
    ("bound", "text"),
    [
        (0.0, "0.0"),
        (1e-10, "1e-10"),
        (1e-05, "1e-05"),
        (0.0001, "0.0001"),
        (0.25, "0.25"),
        (10, "10.0"),
        (100_000, "100000.0"),
        (1e6, "1e+06"),
        (1_234_567, "1.234567e+06"),
        (2_500_000.5, "2.5000005e+06"),
        (1e10, "1e+10"),
        (1.1e23, "1.1e+23"),
        (-1e6, "-1e+06"),
        (-0.5, "-0.5"),
    ],
)
def test_bounds_are_the_canonical_numbers_of_the_openmetrics_spec(bound: float, text: str) -> None:
    assert f'm_bucket{{le="{text}"}} 0\n' in render([histogram("m", ({}, []), buckets=(bound,))])


@pytest.mark.parametrize(
    ("name", "given", "text"),
    [
        ("jobs_completed", "", "Jobs completed"),
        ("http.server/request-size:total", "", "Http server request size total"),
        ("_", "", "_"),
        ("m", " \n\t ", "M"),
        ("m", "  as given  ", "as given"),
        ("m", '# "EOF"', '# "EOF"'),
        ("m", "\\n is no\nline end", "\\n is no\nline end"),
    ],
)
def test_help_is_the_given_one_or_the_name_in_words(name: str, given: str, text: str) -> None:
    for openmetrics in (False, True):
        (family,) = read(
            render([gauge(name, ({}, 1), help=given)], openmetrics=openmetrics), openmetrics
        ).values()
        assert family.documentation == text


@pytest.mark.parametrize(
    ("name", "unit", "shown"),
    [
        ("run_seconds", "seconds", "seconds"),
        ("run.seconds", "seconds", "seconds"),
        ("run_ms", "milliseconds", ""),
        ("runseconds", "seconds", ""),
        ("seconds", "seconds", ""),
        ("rate_m/s", "m/s", ""),
    ],
)
def test_unit_is_told_only_where_the_name_ends_in_it(name: str, unit: str, shown: str) -> None:
    (family,) = read(render([gauge(name, ({}, 1), unit=unit)], openmetrics=True), True).values()
    assert family.unit == shown
    assert "UNIT" not in render([gauge(name, ({}, 1), unit=unit)])


def test_a_sum_that_is_no_counter_is_left_out_of_openmetrics() -> None:
    below = histogram("below", ({}, [-3.0, -1.0, 20.0]), buckets=(-2.0, 0.0, 1.0))
    negative = histogram("negative", ({"a": "x"}, [-3.0]), ({"a": "y"}, [3.0]), buckets=(1.0,))
    text = samples(render([below, negative]), False)
    assert text["below_sum", frozenset()] == 16
    assert text["below_count", frozenset()] == 3
    assert text["negative_sum", frozenset({("a", "x")})] == -3
    strict = samples(render([below, negative], openmetrics=True), True)
    left_out = {(name, dict(labels).get("a")) for name, labels in text.keys() - strict.keys()}
    assert left_out == {
        ("below_sum", None),
        ("below_count", None),
        ("negative_sum", "x"),
        ("negative_count", "x"),
    }
    assert strict["below_bucket", frozenset({("le", "+Inf")})] == 3


# -- names that collide


def page_names(*families: Family) -> list[str]:
    """The page's family names in the order of *families*, found by their help texts."""
    given = [
        Family(
            family.name,
            define(family.name, family.definition.type, help=f"family {place}"),
            family.series,
        )
        for place, family in enumerate(families)
    ]
    strict = {
        family.documentation: name
        for name, family in read(render(given, openmetrics=True), True).items()
    }
    text = {family.documentation: name for name, family in read(render(given), False).items()}
    assert strict == text
    return [strict[f"family {place}"] for place in range(len(families))]


def c(name: str) -> Family:
    return counter(name, ({}, 1))


def g(name: str) -> Family:
    return gauge(name, ({}, 1))


def h(name: str) -> Family:
    return histogram(name, ({}, [1.0]))


@pytest.mark.parametrize(
    ("families", "names"),
    [
        ([g("a.b"), g("a_b"), g("a-b")], ["a_b", "a_b_2", "a_b_3"]),
        ([g("a_b_2"), g("a.b"), g("a_b")], ["a_b_2", "a_b", "a_b_3"]),
        ([g("a:b"), g("a_b")], ["a:b", "a_b"]),
        ([c("a"), c("a_total")], ["a", "a_2"]),
        ([c("a.total"), c("a")], ["a", "a_2"]),
        ([c("_total")], ["_total"]),
        ([c("x"), g("x_total")], ["x", "x_total_2"]),
        ([g("x_total"), c("x")], ["x_total", "x_2"]),
        ([c("x"), g("x")], ["x", "x_2"]),
        ([c("x"), g("x_created")], ["x", "x_created_2"]),
        ([h("lat"), g("lat_count")], ["lat", "lat_count_2"]),
        ([g("lat_sum"), h("lat")], ["lat_sum", "lat_2"]),
        ([h("lat"), h("lat_bucket")], ["lat", "lat_bucket_2"]),
        ([h("lat"), c("lat_created")], ["lat", "lat_created_2"]),
        ([h("lat"), c("lat_created_total")], ["lat", "lat_created_2"]),
        ([g("x_total"), g("x_bucket"), g("x_count"), g("x_sum"), g("x_created"), g("x_info")],
         ["x_total", "x_bucket", "x_count", "x_sum", "x_created", "x_info"]),
    ],
)  # fmt: skip
def test_the_family_declared_first_keeps_its_name(families: list[Family], names: list[str]) -> None:
    assert page_names(*families) == names


def test_a_family_without_series_holds_its_name() -> None:
    assert render([gauge("a.b"), gauge("a_b", ({}, 5))]).splitlines()[-1] == "a_b_2 5"


def test_families_are_sorted_by_name_whatever_their_order() -> None:
    lines = render([g("b"), c("a"), g("a_z"), g("B")]).splitlines()
    assert [line.split()[2] for line in lines if line.startswith("# TYPE")] == [
        "B",
        "a_total",
        "a_z",
        "b",
    ]


# -- tags


@pytest.mark.parametrize("kind", ["counter", "gauge", "histogram"])
@pytest.mark.parametrize("openmetrics", [False, True])
@pytest.mark.parametrize(
    ("tags", "labels"),
    [
        (
            {"http.method": "GET", "a/b": "1", "c:d": "2"},
            {"http_method": "GET", "a_b": "1", "c_d": "2"},
        ),
        (
            {"__name__": "x", "__a": "y", "_b": "z"},
            {"tag___name__": "x", "tag___a": "y", "_b": "z"},
        ),
        ({"a.b": "1", "a_b": "2"}, {"tag_a_b": "1", "a_b": "2"}),
        ({"a-b": "1", "a.b": "2", "a/b": "3"}, {"a_b": "1", "tag_a_b": "2", "tag_a_b_2": "3"}),
        ({"a.b": "1", "a_b": "2", "tag_a_b": "3"}, {"tag_a_b_2": "1", "a_b": "2", "tag_a_b": "3"}),
        (
            {"tag___a": "1", "__a": "2", "__.a": "3"},
            {"tag___a": "1", "tag___a_2": "2", "tag____a": "3"},
        ),
    ],
)
def test_label_names(
    tags: dict[str, str], labels: dict[str, str], kind: MetricType, openmetrics: bool
) -> None:
    assert one_label(tags, kind, openmetrics) == [labels]


@pytest.mark.parametrize("openmetrics", [False, True])
def test_le_and_quantile_are_reserved_in_histograms(openmetrics: bool) -> None:
    tags = {"le": "1", "quantile": "2", "tag_le": "3"}
    page = render([histogram("m", (tags, [1.0]), buckets=(5.0,))], openmetrics=openmetrics)
    others = {"tag_le": "3", "tag_le_2": "1", "tag_quantile": "2"}
    bound = {frozenset((others | {"le": le}).items()) for le in ("5.0", "+Inf")}
    assert {labels for name, labels in samples(page, openmetrics) if name == "m_bucket"} == bound
    assert one_label(tags, "gauge", openmetrics) == [tags]


def test_a_tag_has_one_label_in_all_series_and_declared_keys_count() -> None:
    family = gauge("m", ({"a.b": "1"}, 1), ({"a-b": "1"}, 2), ({"a.b": "1", "a-b": "2"}, 3))
    assert render([family]).splitlines()[2:] == [
        'm{a_b="1"} 2',
        'm{a_b="2",tag_a_b="1"} 3',
        'm{tag_a_b="1"} 1',
    ]
    declared = gauge("m", ({"a.b": "1"}, 1), tag_keys=("a_b", "a.b"))
    assert render([declared]).splitlines()[2:] == ['m{tag_a_b="1"} 1']


HOSTILE_VALUES = [
    "", " ", " a ", '"', "\\", "\n", "\\n", '\\"', 'a",b="c', "}", "{", "a} 1\nm{b=", "# EOF", " # {} 1", ",", "=",
    "\r", "a\r\nb", "\r\n", "\t", "\x0b", "\x0c", "\x1c", "\x1e", "\x85", "\u2028", "\u2029", "\0", "a\0b", "\x7f",
    "\ufeff", "\ufffe", "\uffff", "\U0010ffff", "\u202e", "ä", "日本語", "\U0001f600", "e\u0301", "\\" * 7, '"' * 8,
    "\U0001f600" * 256, "x" * 1024,
]  # fmt: skip


@pytest.mark.parametrize("openmetrics", [False, True])
@pytest.mark.parametrize("value", HOSTILE_VALUES)
def test_any_tag_value_comes_back_exactly(value: str, openmetrics: bool) -> None:
    for kind in ("counter", "gauge", "histogram"):
        assert one_label({"a": value, "b": "end"}, kind, openmetrics) == [{"a": value, "b": "end"}]


def test_series_that_differ_by_an_empty_tag_are_one() -> None:
    """To Prometheus an empty label is none, so it would keep one of the two and say nothing."""
    jobs = counter(
        "jobs",
        ({"a": ""}, 2),
        ({}, 3),
        ({"a": "x"}, 5),
        ({"a": "x", "b": ""}, 7),
        ({"b": "", "c": "y"}, 9),
    )
    assert render([jobs]).splitlines()[2:] == [
        "jobs_total 5",
        'jobs_total{a="x"} 12',
        'jobs_total{b="",c="y"} 9',
    ]
    depth = define("depth", "gauge")
    series = [SeriesState({"a": ""}, 2000, 4.0), SeriesState({}, 1000, 8.0)]
    assert render([Family("depth", depth, series)]).splitlines()[2:] == ["depth 4"]
    times = histogram("times", ({"a": ""}, [0.5, 3.0]), ({}, [0.25]), buckets=(1.0, 2.0))
    assert samples(render([times]), False) == {
        ("times_bucket", frozenset({("le", "1.0")})): 2,
        ("times_bucket", frozenset({("le", "2.0")})): 2,
        ("times_bucket", frozenset({("le", "+Inf")})): 3,
        ("times_sum", frozenset()): 3.75,
        ("times_count", frozenset()): 3,
    }


# -- anything at all

NAMES = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["a", "b", "_", "A", "a.b", "a_b"]),
        st.sampled_from(["", "", ".", "_", "-", ":", "/"]),
        st.sampled_from(
            [
                "",
                "total",
                "_total",
                "_bucket",
                "_count",
                "_sum",
                "_created",
                "_info",
                "_2",
                "_total_2",
            ]
        ),
    ),
)
KEYS = st.sampled_from([
    "a", "a.b", "a-b", "a_b", "a:b", "tag_a_b", "tag_a_b_2", "tag.a_b", "tag_le", "tag_le_2", "tag___a", "a_total",
    "le", "quantile", "l.e", "__name__", "__a", "_.a", "_", "__", "A",
])  # fmt: skip
VALUES = st.sampled_from(HOSTILE_VALUES) | st.text(st.characters(codec="utf-8"), max_size=20)
SERIES = st.lists(
    st.dictionaries(KEYS, VALUES, max_size=5),
    max_size=4,
    # empty is absent to Prometheus: such series are joined, see above
    unique_by=lambda tags: frozenset((key, value) for key, value in tags.items() if value),
)
HELP = st.text(st.characters(codec="utf-8"), max_size=20)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
BOUNDS = st.lists(NUMBERS, min_size=1, max_size=6, unique=True).map(sorted)


@st.composite
def families(draw: st.DrawFn) -> list[Family]:
    made = []
    for name in draw(st.lists(NAMES, unique=True, max_size=8)):
        kind = draw(st.sampled_from(["counter", "gauge", "histogram"]))
        tags = draw(SERIES)
        told = {
            "help": draw(HELP),
            "unit": draw(st.sampled_from(["", "b", "total", "count", "_2"])),
        }
        if kind == "counter":
            made.append(counter(name, *((one, abs(draw(NUMBERS))) for one in tags), **told))
        elif kind == "gauge":
            made.append(gauge(name, *((one, draw(NUMBERS)) for one in tags), **told))
        else:
            values = st.lists(st.floats(-1e6, 1e6), max_size=4)
            made.append(
                histogram(
                    name, *((one, draw(values)) for one in tags), **told, buckets=draw(BOUNDS)
                )
            )
    return made


def numbered(given: Sequence[Family]) -> list[Family]:
    """The same, with a help text that tells each family."""
    return [
        Family(
            family.name,
            define(
                family.name,
                family.definition.type,
                help=f"{place} {family.definition.help}",
                unit=family.definition.unit,
                buckets=family.definition.buckets or None,
            ),
            family.series,
        )
        for place, family in enumerate(given)
    ]


def check(page: str, given: Sequence[Family], openmetrics: bool) -> None:
    """Hold *page*, as its parser reads it, to *given*, knowing nothing of how names are made."""
    read_families = {
        int(family.documentation.split()[0]): family for family in read(page, openmetrics).values()
    }
    assert set(read_families) == {place for place, family in enumerate(given) if family.series}
    sample_names: set[str] = set()
    for place, read_family in read_families.items():
        family = given[place]
        kind = family.definition.type
        assert read_family.type == kind
        assert read_family.documentation == family.definition.help.strip()
        names = {sample.name for sample in read_family.samples}
        assert names.isdisjoint(sample_names)
        sample_names |= names
        left = iter(read_family.samples)
        labels_of: dict[str, str] = {}
        for live in sorted(family.series, key=lambda live: sorted(live.tags.items())):
            for suffix, extra, value in expected(family, live, openmetrics):
                sample = next(left)
                assert sample.name == read_family.name + suffix
                assert float(sample.value) == value
                assert sample.timestamp is None
                labels = dict(sample.labels)
                if extra is not None:
                    assert float(labels.pop("le")) == extra
                assert list(labels.values()) == [tag for _, tag in sorted(live.tags.items())]
                for key, label in zip(sorted(live.tags), labels, strict=True):
                    assert labels_of.setdefault(key, label) == label
                    assert not label.startswith("__")
        assert next(left, None) is None
        assert len(set(labels_of.values())) == len(labels_of)


def expected(
    family: Family, live: SeriesState, openmetrics: bool
) -> Iterator[tuple[str, float | None, float]]:
    if family.definition.type == "counter":
        yield "_total", None, live.value
    elif family.definition.type == "gauge":
        yield "", None, live.value
    else:
        for place, bound in enumerate(family.definition.buckets):
            yield "_bucket", bound, sum(live.buckets[: place + 1])
        yield "_bucket", math.inf, live.count
        if not openmetrics or (
            live.value >= 0 and all(bound >= 0 for bound in family.definition.buckets)
        ):
            yield "_sum", None, live.value
            yield "_count", None, live.count


@settings(max_examples=300, deadline=None)
@example([g("a.b"), g("a_b"), c("a_b_total"), h("a_b"), g("a_b_count"), c("a_b_created")])
@given(families())
def test_whatever_the_names_and_tags_every_sample_comes_back(given: list[Family]) -> None:
    given = numbered(given)
    check(render(given), given, openmetrics=False)
    check(render(given, openmetrics=True), given, openmetrics=True)


def hostile_families() -> list[Family]:
    """A page of everything that might go wrong: each end of a name in each type, each tag key, each tag value."""
    made = [
        gauge(
            "values",
            *(
                ({"value": value, "n": str(place)}, place)
                for place, value in enumerate(HOSTILE_VALUES)
            ),
        )
    ]
    # 32 tags, the most there may be: "A_" stands for all that collide with "A."
    keys = [
        f"{start}{middle}{end}"
        for start in ("le", "__a", "tag_")
        for middle in "_./:-"
        for end in ("", "b")
    ][:32]
    tags = {key: str(place) for place, key in enumerate(keys)}
    made += [
        counter("c_tags", (tags, 1)),
        gauge("g_tags", (tags, 2)),
        histogram("h_tags", (tags, [3.0])),
    ]
    kinds: list[Any] = [counter, gauge, histogram]
    place = 0
    for start in ("a", "_", "a.b", "a-b", "B:", "quantile", "go_", "up"):
        for end in (
            "",
            "_total",
            "/total",
            "_bucket",
            "_count",
            "_sum",
            "_created",
            "_info",
            "_2",
            "_total_total",
        ):
            kind = kinds[place % 3]
            place += 1
            value = [0.5, 7.0, -1e6] if kind is histogram else place
            made.append(
                kind(
                    start + end,
                    ({"x": str(place)}, value),
                    help=f'{place} "help\\n" \r\0\u2028 \n# EOF',
                )
            )
    return made


@needs_promtool
def test_promtool_reads_a_hostile_page() -> None:
    code, said = promtool(render(hostile_families()))
    assert code in (0, 3), said  # 3: the names are no good style


@pytest.mark.parametrize("openmetrics", [False, True])
def test_python_reads_a_hostile_page(openmetrics: bool) -> None:
    given = numbered(hostile_families())
    check(render(given, openmetrics=openmetrics), given, openmetrics)


# -- a real server


class SilentHandler(WSGIRequestHandler):
    def log_message(self, *args: Any, **kwargs: Any) -> None:
        pass


@contextmanager
def served(app: Any) -> Iterator[int]:
    with make_server("127.0.0.1", 0, app, handler_class=SilentHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[str]:
    """A server of our own that scrapes /openmetrics and /text of *target* each second. Yields its address."""
    config = folder / "prometheus.yml"
    jobs = [
        {
            "job_name": job,
            "metrics_path": f"/{job}",
            "static_configs": [{"targets": [f"127.0.0.1:{target}"]}],
        }
        for job in ("openmetrics", "text")
    ]
    config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address={address}"],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield f"http://{address}"
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def ask(server: str, query: str) -> list[dict[str, Any]]:
    url = f"{server}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with urllib.request.urlopen(url, timeout=5) as answer:
        result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return result


@needs_prometheus
def test_a_prometheus_server_stores_every_sample_of_a_hostile_page(tmp_path: Path) -> None:
    metrics: Any = FakeMetrics(hostile_families())
    app = wsgi_app(metrics)
    formats = {}

    def either(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/text":
            del environ["HTTP_ACCEPT"]

        def note(status: str, headers: list[tuple[str, str]], *failure: Any) -> Any:
            formats[environ["PATH_INFO"]] = dict(headers)["Content-Type"]
            return start_response(status, headers, *failure)

        return app(environ, note)

    with served(either) as port, prometheus(tmp_path, port) as server:
        stored: dict[str, Any] = {}
        until = time.monotonic() + 20
        while len(stored) < 2 and time.monotonic() < until:
            time.sleep(0.25)
            try:
                up = [one["metric"]["job"] for one in ask(server, "up") if one["value"][1] == "1"]
                stored = {job: ask(server, f'{{job="{job}"}}') for job in up}
            except OSError:  # not yet listening
                continue
    log = (tmp_path / "prometheus.log").read_text()
    assert set(stored) == {"openmetrics", "text"}, log
    assert formats == {"/openmetrics": OPENMETRICS, "/text": TEXT}
    for job, rows in stored.items():
        found = {}
        for row in rows:
            name, labels = row["metric"]["__name__"], row["metric"]
            if (name == "up" and "x" not in labels) or name.startswith(
                "scrape_"
            ):  # the server's own
                continue
            tags = {
                (key, tag)
                for key, tag in labels.items()
                if key not in ("__name__", "job", "instance")
            }
            found[name, frozenset(tags)] = float(row["value"][1])
        page = render(metrics.families, openmetrics=job == "openmetrics")
        wanted = {
            (name, frozenset((key, tag) for key, tag in labels if tag)): value
            for (name, labels), value in samples(page, job == "openmetrics").items()
        }
        assert found == wanted


# -- export and negotiate


def fake_module(monkeypatch: pytest.MonkeyPatch, name: str, **attributes: Any) -> None:
    module = ModuleType(f"redismetrics.{name}")
    for key, value in attributes.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_export_of_all_of_one_and_of_none() -> None:
    metrics: Any = FakeMetrics([g("a"), g("b")])
    assert export(metrics=metrics) == render([g("a"), g("b")])
    assert export("b", metrics=metrics) == "# HELP b B\n# TYPE b gauge\nb 1\n"
    assert (
        export("b", metrics=metrics, openmetrics=True) == "# TYPE b gauge\n# HELP b B\nb 1\n# EOF\n"
    )
    assert export("c", metrics=metrics) == ""
    assert metrics.asked == [None, "b", "b", "c"]


def test_without_metrics_the_default_client_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = FakeMetrics([g("a")])
    fake_module(monkeypatch, "client.default", client=lambda: metrics)
    assert export() == render([g("a")])
    assert negotiate(None) == (render([g("a")]).encode(), TEXT)
    assert metrics.asked == [None, None]


PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;"
    "q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        (BROWSER, False),
        (PROMETHEUS_2, True),
        (PROMETHEUS_3, True),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text; Version=1.0.0; Q=0.1", True),
        ('application/openmetrics-text; version="0.0.1"', True),
        ("application/openmetrics-text;version=2.0.0", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0.000", False),
        ("application/openmetrics-text;q=0.5,text/plain", False),
        ("application/openmetrics-text;q=0.5,text/*;q=0.6", False),
        ("application/openmetrics-text;q=0.5,text/plain;q=0.4,*/*", True),
        ("application/openmetrics-text;q=0.5,*/*", False),
        ("application/openmetrics-text,text/plain", True),
        ("application/openmetrics-text;q=nan", False),
        ("application/openmetrics-text;q=2", False),
        (",;=;,q", False),
        ("application/*", False),
        ("application/openmetrics-protobuf", False),
    ],
)
def test_openmetrics_only_for_those_who_ask(accept: str | None, openmetrics: bool) -> None:
    metrics: Any = FakeMetrics(MIXED)
    body, kind = negotiate(accept, metrics=metrics)
    assert kind == (OPENMETRICS if openmetrics else TEXT) == content_type(openmetrics)
    assert body == render(MIXED, openmetrics=openmetrics).encode()


# -- WSGI and ASGI: the same cases

UTF8 = [gauge("m", ({"a": "ä\U0001f600"}, 1))]
Answer = tuple[int, Mapping[str, str], bytes]


def wsgi(
    metrics: Any, method: str = "GET", accept: str | None = None, path: str = "/metrics"
) -> Answer:
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path}
    setup_testing_defaults(environ)
    if accept is not None:
        environ["HTTP_ACCEPT"] = accept
    started: list[Any] = []
    body = b"".join(wsgi_app(metrics)(environ, lambda *given: started.append(given)))  # type: ignore[arg-type]
    ((status, headers),) = started
    return int(status.split()[0]), dict(headers), body


def asgi(
    metrics: Any, method: str = "GET", accept: str | None = None, path: str = "/metrics"
) -> Answer:
    headers = [] if accept is None else [(b"accept", part.encode()) for part in accept.split(",")]
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    sent = asgi_messages(metrics, scope, [{"type": "http.request"}])
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    answered = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
    assert all(key == key.lower() for key in answered)
    return (
        sent[0]["status"],
        {key.title(): value for key, value in answered.items()},
        sent[1]["body"],
    )


def asgi_messages(metrics: Any, scope: dict[str, Any], received: list[dict[str, Any]]) -> list[Any]:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return received.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(asgi_app(metrics)(scope, receive, send))  # type: ignore[arg-type]
    return sent


both = pytest.mark.parametrize("request_", [wsgi, asgi])


@both
def test_get_answers_with_the_page_on_any_path(request_: Any) -> None:
    page = render(UTF8).encode()
    for path in ("/metrics", "/", "/favicon.ico"):
        status, headers, body = request_(FakeMetrics(UTF8), path=path)
        assert (status, body) == (200, page)
        assert headers == {"Content-Type": TEXT, "Content-Length": str(len(page))}


@both
def test_get_negotiates(request_: Any) -> None:
    status, headers, body = request_(FakeMetrics(UTF8), accept=PROMETHEUS_2)
    assert (status, headers["Content-Type"]) == (200, OPENMETRICS)
    assert body == render(UTF8, openmetrics=True).encode()


@both
def test_head_answers_without_the_page(request_: Any) -> None:
    status, headers, body = request_(FakeMetrics(UTF8), "HEAD")
    assert (status, body) == (200, b"")
    assert headers == {"Content-Type": TEXT, "Content-Length": str(len(render(UTF8).encode()))}


@both
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_refused(request_: Any, method: str) -> None:
    metrics = FakeMetrics(UTF8)
    status, headers, body = request_(metrics, method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert body == b"Only GET and HEAD are supported.\n"
    assert metrics.asked == []


@both
@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (
            StoreUnavailable("Redis at localhost:6379\ndid not answer"),
            503,
            b"Redis at localhost:6379 did not answer\n",
        ),
        (StoreUnavailable(), 503, b"StoreUnavailable\n"),
        (FormatMismatch("bytes of format 9"), 500, b"bytes of format 9\n"),
    ],
)
def test_an_error_of_the_store_is_one_line(
    request_: Any, error: Exception, status: int, line: bytes
) -> None:
    answered, headers, body = request_(FakeMetrics(error=error))
    assert (answered, body) == (status, line)
    assert headers == {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": str(len(line)),
    }


def test_asgi_asks_in_a_thread() -> None:
    metrics = FakeMetrics(UTF8)
    asgi(metrics)
    assert metrics.threads != [threading.main_thread()]
    wsgi(metrics)
    assert metrics.threads[1:] == [threading.main_thread()]


def test_asgi_takes_part_in_lifespan_and_refuses_websockets() -> None:
    received = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    assert asgi_messages(FakeMetrics(), {"type": "lifespan"}, received) == [
        {"type": "lifespan.startup.complete"},
        {"type": "lifespan.shutdown.complete"},
    ]
    with pytest.raises(ValueError, match="got 'websocket'"):
        asgi_messages(FakeMetrics(), {"type": "websocket"}, [])


def test_asgi_sends_a_large_page_in_pieces() -> None:
    families = [gauge("large", *(({"n": f"{number:0500}"}, number) for number in range(2_000)))]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    start, *rest = asgi_messages(FakeMetrics(families), scope, [])
    page = render(families).encode()
    assert dict(start["headers"])[b"content-length"] == str(len(page)).encode()
    assert b"".join(message["body"] for message in rest) == page
    assert max(len(message["body"]) for message in rest) <= 1 << 18
    assert [message["more_body"] for message in rest] == [True] * (len(rest) - 1) + [False]


def test_wsgi_over_a_socket() -> None:
    metrics: Any = FakeMetrics(UTF8)
    with served(wsgi_app(metrics)) as port:
        url = f"http://127.0.0.1:{port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            assert answer.read() == render(UTF8).encode()
        with urllib.request.urlopen(
            urllib.request.Request(url, method="HEAD"), timeout=5
        ) as answer:
            assert answer.headers["Content-Length"] == str(len(render(UTF8).encode()))


# -- the command


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Put a fake in the place of `Metrics`; returns what it was made with, then the fakes."""
    made: list[Any] = []

    def make(**given: Any) -> FakeMetrics:
        if given["url"] == "nonsense":
            raise InvalidSetting("url must start with redis://, got 'nonsense'")
        error = (
            StoreUnavailable("no answer\nfrom Redis") if given["url"] == "redis://away" else None
        )
        metrics = FakeMetrics([g("a"), *UTF8], error)
        made.extend([given, metrics])
        return metrics

    fake_module(monkeypatch, "client.metrics", Metrics=make)
    return made


def test_main_prints_the_page(made: list[Any], capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main([]) == 0
    assert capfdbinary.readouterr() == (render([g("a"), *UTF8]).encode(), b"")
    assert main(["--metric", "a", "--openmetrics", "--url", "redis://x", "--namespace", "ns"]) == 0
    assert capfdbinary.readouterr().out == b"# TYPE a gauge\n# HELP a A\na 1\n# EOF\n"
    assert main(["--metric", "unknown"]) == 0
    assert capfdbinary.readouterr().out == b""
    assert made[0] == {"url": None, "namespace": None}
    assert made[2] == {"url": "redis://x", "namespace": "ns"}
    assert all(metrics.closed for metrics in made[1::2])


def test_main_tells_an_error_of_the_store(
    made: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--url", "redis://away"]) == 1
    assert capsys.readouterr() == ("", "no answer from Redis\n")
    assert made[1].closed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--serve", "9464"], "must be HOST:PORT"),
        (["--serve", "localhost:"], "must be HOST:PORT"),
        (["--serve", "localhost:http"], "must be HOST:PORT"),
        (["--serve", ":65536"], "must be HOST:PORT"),
        (["--serve", ":-1"], "must be HOST:PORT"),
        (["--serve", "::1:80"], "must be HOST:PORT"),
        (["--serve", "http://localhost:80"], "must be HOST:PORT"),
        (["--serve", ":0", "--metric", "a"], "leave out --metric"),
        (["--serve", ":0", "--openmetrics"], "leave out --metric"),
        (["--url", "nonsense"], "url must start with redis://"),
        (["surplus"], "unrecognized arguments"),
    ],
)
def test_main_refuses_nonsense(
    made: list[Any], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert made == []


def test_main_tells_when_the_address_is_taken(
    made: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--serve", f":{port}"]) == 1
    assert f"cannot serve on 127.0.0.1:{port}: " in capsys.readouterr().err
    assert main(["--serve", "a..b:0"]) == 1
    assert "cannot serve on a..b:0: " in capsys.readouterr().err
    assert made[1].closed


SERVE = """
import sys, types
from redismetrics.exposition.families import Family, SeriesState
from redismetrics.model.definition import define
class Metrics:
    def __init__(self, **given): pass
    def live(self, name=None): return [Family("a", define("a", "gauge"), [SeriesState({}, 0, 1.0)])]
    def self_metrics(self): return []
    def close(self): print("closed", flush=True)
module = sys.modules["redismetrics.client.metrics"] = types.ModuleType("redismetrics.client.metrics")
module.Metrics = Metrics
from redismetrics.export.__main__ import main
sys.exit(main(["--serve", sys.argv[1]]))
"""


@pytest.mark.parametrize(
    ("address", "host"), [(":0", "127.0.0.1"), ("localhost:0", "localhost"), ("[::1]:0", "[::1]")]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_answers_until_it_is_told_to_end(
    address: str, host: str, number: signal.Signals
) -> None:
    if "::1" in address:
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
    )
    with process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            assert said.startswith(f"serving on http://{host}:")
            url = said.removeprefix("serving on ").strip()
            where = urllib.parse.urlsplit(url)
            # A client that connects and says nothing holds up neither the next one nor the end.
            with socket.create_connection((where.hostname, where.port), timeout=5):
                with urllib.request.urlopen(url, timeout=5) as answer:
                    assert answer.read() == b"# HELP a A\n# TYPE a gauge\na 1\n"
                process.send_signal(number)
                out, err = process.communicate(timeout=10)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "closed\n", "")
