"""Many metrics with few series each: decoded and rendered together as each by itself."""

import random
import struct
from dataclasses import fields, replace
from itertools import chain

import pytest
from hypothesis import given

from redismetrics.columnar.small_totals import COUNTER, HEAD, PLAIN
from redismetrics.exposition.families import Family
from redismetrics.exposition.lines import FEW_SERIES
from redismetrics.exposition.live_series import read_live_series
from redismetrics.exposition.series_table import SeriesTable
from redismetrics.exposition.small_metrics import StoredMetric, is_small, read_small_metrics
from redismetrics.exposition.text import render
from redismetrics.model.definition import Definition, define
from redismetrics.model.exemplar import StoredExemplar
from redismetrics.model.validation import pack_tags
from redismetrics.store.replies import pairs, series_by_id
from tests.exposition.test_any_page import families
from tests.exposition.test_series_table import stored
from tests.fixtures.exposition import MIXED, counter, gauge, histogram

DEFINITIONS = [
    define("n", "counter"),
    define("n", "gauge"),
    define("n", "summary"),
    define("n", "histogram", buckets=[1, 2]),
    define("n", "histogram", buckets=[1, 2, 3]),
]
ROWS = {
    "counter": (0.1, 1e-17),
    "gauge": (-0.5, 1e12, 1e15),
    "summary": (7.0, 0.1, 1e-17),
    "histogram": (7.0, 0.1, 1e-17),
}


def metric(definition: Definition, ids: range, tags: list[dict[str, str]]) -> StoredMetric:
    """Return what Redis holds of a metric with these ids, whose series have these *tags*."""
    rows = {
        number: (
            1e12 + number,
            *(each * (number + 1) for each in ROWS[definition.type]),
            *map(float, range(number, number + len(definition.buckets))),
        )
        for number in ids
    }
    live = [b"first", b"3", *chain.from_iterable(stored(definition, rows).items())]
    series = [(pack_tags(each), b"%d" % number) for number, each in zip(ids, tags, strict=False)]
    return StoredMetric(definition, live, [b"", b"--", *chain.from_iterable(series)])


def by_itself(each: StoredMetric) -> SeriesTable:
    tags = series_by_id(each.series)
    return read_live_series("n", each.definition, tags, pairs(each.live))


def same(found: SeriesTable | None, expected: SeriesTable) -> bool:
    """Compare the columns and what is known of all series, not only the series."""
    return found is not None and columns(found) == columns(expected)


def columns(table: SeriesTable) -> list[object]:
    return [getattr(table, column.name) for column in fields(table)]


def test_metrics_are_decoded_together_as_each_by_itself() -> None:
    rng = random.Random(1)
    metrics = []
    for number in range(60):
        first = rng.choice([0, 3, 15, 40])
        ids = range(first, first + rng.choice([1, 2, 2, 9]))
        tags = [{"route": str(at), "zone": rng.choice(["", "\0", "é"])} for at in ids]
        if rng.random() < 0.2:
            tags[0] = {}
        metrics.append(metric(DEFINITIONS[number % len(DEFINITIONS)], ids, tags))
    assert all(is_small(each.live, each.series) for each in metrics)
    for found, each in zip(read_small_metrics(metrics), metrics, strict=True):
        assert same(found, by_itself(each))


def test_totals_with_more_than_rows_are_left() -> None:
    ids, tags = range(2), [{"a": "1"}, {"a": "2"}]
    plain = metric(DEFINITIONS[0], ids, tags)
    change = HEAD.pack(COUNTER, PLAIN, 0, 0)
    others = [
        replace_live(plain, [*plain.live, b"+3", change]),
        replace_live(plain, [*plain.live, b"unknown", b"of a newer version"]),
        replace_live(plain, []),
        # The series 1 was removed.
        metric(DEFINITIONS[0], ids, tags[:1]),
        metric(define("n", "stateset"), range(0), []),
        metric(define("n", "gauge", per="process"), ids, tags),
    ]
    found = read_small_metrics([plain, None, *others])
    assert same(found[0], by_itself(plain))
    assert found[1:] == [None] * (1 + len(others))
    assert not is_small([b""] * 2_000, [])
    assert not is_small([], [b""] * 2_000)


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 8, struct.pack("<48d", *[float("nan")] * 48), struct.pack("<d", 1e300)]
)
def test_damaged_bytes_of_one_leave_all(data: bytes) -> None:
    plain = metric(DEFINITIONS[0], range(1), [{"a": "1"}])
    if len(data) == 8 and any(data):
        data += plain.live[3][8:]
    damaged = replace_live(plain, [b"first", b"3", b"0", data])
    assert read_small_metrics([plain, damaged]) == [None, None]
    tags = plain._replace(series=[b"\x91\xa1a", b"0"])
    assert read_small_metrics([plain, tags]) == [None, None]


def replace_live(each: StoredMetric, live: list[bytes]) -> StoredMetric:
    return each._replace(live=live)


def together(page: list[Family]) -> list[Family]:
    return [replace(each, series=SeriesTable.of(each.series)) for each in page]


@given(families())
def test_any_page_is_the_same_rendered_together(page: list[Family]) -> None:
    for openmetrics in (False, True):
        expected = render(page, openmetrics=openmetrics)
        assert render(together(page), openmetrics=openmetrics) == expected


@pytest.mark.parametrize("openmetrics", [False, True])
def test_a_page_of_few_and_many_series_is_the_same_rendered_together(openmetrics: bool) -> None:
    page: list[Family] = [*MIXED]
    for number in range(300):
        route = {"route": f'"{number}"', "l.e": "\\"}
        size = FEW_SERIES + 1 if number == 150 else 3
        tags = [{**route, "at": str(at)} for at in reversed(range(size))]
        page += [
            counter(f"c_{number}", *((each, number) for each in tags), tag_keys=["l_e"]),
            gauge(f"g.{number}", *((each, -0.5) for each in tags[:1])),
            histogram(f"h_{number}", *((each, [-5.0, 1.5]) for each in tags), buckets=[-1, 1, 2]),
            histogram(f"i_{number}", ({}, [0.5]), buckets=[1, 2]),
        ]
    expected = render(page, openmetrics=openmetrics)
    assert render(together(page), openmetrics=openmetrics) == expected


def test_exemplars_are_on_the_page_of_few_series() -> None:
    exemplar = StoredExemplar(1.5, 1_000, {"trace_id": "abc"})
    page = [counter("jobs", ({"a": "1"}, 2)), counter("other", ({"a": "1"}, 2))]
    table = SeriesTable.of(page[0].series)
    table.exemplars = {table.texts[0]: {0: exemplar}}
    shown = render([replace(page[0], series=table), *together(page[1:])], openmetrics=True)
    assert 'jobs_total{a="1"} 2 # {trace_id="abc"} 1.5 1.000\n' in shown
    assert 'other_total{a="1"} 2\n' in shown
