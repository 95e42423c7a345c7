"""Running state as columns, against plain dicts and lists."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismetrics.exposition.families import BLOCK, SeriesState, SeriesStates
from redismetrics.model.definition import Definition, define
from redismetrics.model.validation import pack_tags
from redismetrics.store.keys import totals_shape

# Few letters, so that series share keys and beginnings; those that could be taken for what stands between parts.
TEXTS = st.text(st.sampled_from('\0\1\2\n"a é\U0001f600'), max_size=3)
TAGS = st.dictionaries(st.sampled_from(["a", "b", "b.c"]), TEXTS, max_size=3)
SERIES = st.lists(TAGS, max_size=12, unique_by=lambda tags: tuple(sorted(tags.items())))


def stored(definition: Definition, rows: dict[int, tuple[float, ...]]) -> dict[bytes, bytes]:
    """The hash `live` with these rows by id."""
    width, many = totals_shape(definition.type, len(definition.buckets))
    fields: dict[int, list[float]] = {}
    for number, row in rows.items():
        field = fields.setdefault(number // many, [0.0] * width * many)
        field[number % many * width : (number % many + 1) * width] = row
    return {
        str(number).encode(): struct.pack(f"<{width * many}d", *values)
        for number, values in fields.items()
    }


def unpacked(tags: list[dict[str, str]]) -> SeriesStates:
    rows = {number: (1000.0 + number, float(number), 0.25) for number in range(len(tags))}
    ids = {number: pack_tags(each) for number, each in enumerate(tags)}
    return SeriesStates.unpack(define("n", "counter"), ids, stored(define("n", "counter"), rows))


@given(SERIES)
def test_rows_of_the_store_are_the_series_that_were_stored(tags: list[dict[str, str]]) -> None:
    wanted = [SeriesState(each, 1000 + number, number + 0.25) for number, each in enumerate(tags)]
    found = unpacked(tags)
    assert found == wanted
    assert wanted == found
    assert found[1:3] == wanted[1:3]
    assert SeriesStates.of(wanted) == wanted
    assert (
        found.tag_keys == {tuple(sorted(each)) for each in tags} == SeriesStates.of(wanted).tag_keys
    )


@given(SERIES)
def test_they_sort_as_lists_of_pairs(tags: list[dict[str, str]]) -> None:
    wanted = sorted(tags, key=lambda each: sorted(each.items()))
    assert [live.tags for live in unpacked(tags).in_order()] == wanted


@given(SERIES)
def test_runs_hold_every_row_once_with_its_tags(tags: list[dict[str, str]]) -> None:
    rows = unpacked(tags)
    found, numbers = [], []
    for run in rows.runs():
        numbers += run.rows
        columns = zip(*run.values, strict=True) if run.values else [()] * len(run.rows)
        found += [dict(zip(run.tag_keys, values, strict=True)) for values in columns]
    assert numbers == list(range(len(tags)))
    assert found == [live.tags for live in rows]


@given(SERIES)
def test_tags_without_text_are_not_overlooked(tags: list[dict[str, str]]) -> None:
    wanted = any("" in each.values() for each in tags)
    assert (
        unpacked(tags).has_empty
        == SeriesStates.of([SeriesState(each, 0, 0) for each in tags]).has_empty
        == wanted
    )


def test_a_run_is_no_longer_than_a_block_and_ends_where_the_keys_change() -> None:
    tags = [{"a": str(number)} for number in range(BLOCK + 1)] + [
        {},
        {"b": "1", "c": "2"},
        {"b": "1", "c": "3"},
    ]
    runs = [(len(run.rows), run.tag_keys) for run in unpacked(tags).runs()]
    assert max(many for many, _ in runs) == BLOCK
    assert sum(many for many, keys in runs if keys == ("a",)) == BLOCK + 1
    assert sum(many for many, keys in runs if keys == ("b", "c")) == 2
    assert (1, ()) in runs


def test_rows_that_are_none_and_ids_nobody_knows_are_left_out() -> None:
    definition = define("n", "gauge")
    states = stored(definition, {0: (0.0, 9, 9, 9), 1: (1000.0, 1.5, 0, 0), 17: (1000.0, 7, 0, 0)})
    found = SeriesStates.unpack(
        definition, {0: pack_tags({"a": "0"}), 1: pack_tags({"a": "1"})}, states
    )
    assert found == [SeriesState({"a": "1"}, 1000, 1.5)]


def test_a_histogram_has_its_counts() -> None:
    definition = define("n", "histogram", buckets=(1, 2))
    states = stored(definition, {3: (1000.0, 4, 2.5, 0.5, 1, 2)})
    found = SeriesStates.unpack(definition, {3: pack_tags({})}, states)
    assert found == [SeriesState({}, 1000, 3.0, 4, (1, 2))]
    assert found.seen_since(1000) == found
    assert found.seen_since(1001) == []


@pytest.mark.parametrize("tags", [b"\x81\xa1a\xa1b", b"\x91\xa1a", b"\x92\xa1a\x01", b"\xa2ab"])
def test_tags_that_are_none_are_told(tags: bytes) -> None:
    definition = define("n", "counter")
    with pytest.raises((ValueError, TypeError, AttributeError)):
        SeriesStates.unpack(definition, {0: tags}, stored(definition, {0: (1.0, 1, 0)}))
