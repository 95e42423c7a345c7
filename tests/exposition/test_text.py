"""The Prometheus page as its readers see it: both Python parsers, and promtool."""

import textwrap

import pytest

from redismetrics.exposition.families import Family, SeriesState
from redismetrics.exposition.text import render
from redismetrics.model.definition import define
from tests.fixtures.exposition import (
    HOSTILE_VALUES,
    MIXED,
    c,
    counter,
    g,
    gauge,
    histogram,
    needs_promtool,
    one_label,
    promtool,
    read,
    samples,
)


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
def test_promtool_accepts_an_ordinary_page() -> None:
    assert promtool(render(MIXED)) == (0, "")


@needs_promtool
def test_promtool_rejects_a_wrong_page() -> None:
    assert promtool("jobs-completed 1\n")[0] == 1


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
def test_help_is_the_declared_text_or_the_name_in_words(name: str, given: str, text: str) -> None:
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
def test_the_unit_is_printed_only_if_the_name_ends_in_it(name: str, unit: str, shown: str) -> None:
    (family,) = read(render([gauge(name, ({}, 1), unit=unit)], openmetrics=True), True).values()
    assert family.unit == shown
    assert "UNIT" not in render([gauge(name, ({}, 1), unit=unit)])


def test_openmetrics_leaves_out_sums_that_are_not_counters() -> None:
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


def test_families_are_sorted_by_name() -> None:
    lines = render([g("b"), c("a"), g("a_z"), g("B")]).splitlines()
    assert [line.split()[2] for line in lines if line.startswith("# TYPE")] == [
        "B",
        "a_total",
        "a_z",
        "b",
    ]


@pytest.mark.parametrize("openmetrics", [False, True])
@pytest.mark.parametrize("value", HOSTILE_VALUES)
def test_any_tag_value_comes_back_exactly(value: str, openmetrics: bool) -> None:
    for kind in ("counter", "gauge", "histogram"):
        assert one_label({"a": value, "b": "end"}, kind, openmetrics) == [{"a": value, "b": "end"}]


def test_series_that_differ_by_an_empty_tag_are_merged() -> None:
    """For Prometheus an empty label is no label, so it would silently keep one of the two."""
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
