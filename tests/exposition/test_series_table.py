"""Current values as columns, against plain dicts and lists."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismetrics.exposition.families import SeriesState
from redismetrics.exposition.live_series import read_live_series
from redismetrics.exposition.series_table import MAX_GROUP, SeriesTable
from redismetrics.model.definition import Definition, define
from redismetrics.model.validation import pack_tags
from redismetrics.store.keys import totals_shape

# Few letters, so that series share keys and prefixes; among them the separator and the escape.
TEXTS = st.text(st.sampled_from('\0\1\2\n"a é\U0001f600'), max_size=3)
TAGS = st.dictionaries(st.sampled_from(["a", "b", "b.c"]), TEXTS, max_size=3)
SERIES = st.lists(TAGS, max_size=12, unique_by=lambda tags: tuple(sorted(tags.items())))


def stored(definition: Definition, rows: dict[int, tuple[float, ...]]) -> dict[bytes, bytes]:
    """Return the hash `live` with these rows by id."""
    width, rows_per_field = totals_shape(definition.type, len(definition.buckets))
    fields: dict[int, list[float]] = {}
    for number, row in rows.items():
        field = fields.setdefault(number // rows_per_field, [0.0] * width * rows_per_field)
        at = number % rows_per_field * width
        field[at : at + width] = row
    return {
        str(number).encode(): struct.pack(f"<{width * rows_per_field}d", *values)
        for number, values in fields.items()
    }


def unpacked(tags: list[dict[str, str]]) -> SeriesTable:
    rows = {number: (1000.0 + number, float(number), 0.25) for number in range(len(tags))}
    ids = {number: pack_tags(each) for number, each in enumerate(tags)}
    return read_live_series("n", define("n", "counter"), ids, stored(define("n", "counter"), rows))


@given(SERIES)
def test_unpacked_rows_are_the_series_that_were_stored(tags: list[dict[str, str]]) -> None:
    expected = [SeriesState(each, 1000 + number, number + 0.25) for number, each in enumerate(tags)]
    found = unpacked(tags)
    assert found == expected
    assert expected == found
    assert found[1:3] == expected[1:3]
    assert SeriesTable.of(expected) == expected
    assert (
        found.tag_keys
        == {tuple(sorted(each)) for each in tags}
        == SeriesTable.of(expected).tag_keys
    )


@pytest.mark.slow
@given(SERIES)
def test_series_sort_as_lists_of_pairs(tags: list[dict[str, str]]) -> None:
    expected = sorted(tags, key=lambda each: sorted(each.items()))
    assert [row.tags for row in unpacked(tags).in_order()] == expected


@pytest.mark.slow
@given(SERIES)
def test_groups_hold_every_row_once_with_its_tags(tags: list[dict[str, str]]) -> None:
    rows = unpacked(tags)
    found, numbers = [], []
    for group in rows.groups():
        numbers += group.rows
        columns = zip(*group.values, strict=True) if group.values else [()] * len(group.rows)
        found += [dict(zip(group.tag_keys, values, strict=True)) for values in columns]
    assert numbers == list(range(len(tags)))
    assert found == [row.tags for row in rows]


@pytest.mark.slow
@given(SERIES)
def test_empty_tag_values_are_noticed(tags: list[dict[str, str]]) -> None:
    expected = any("" in each.values() for each in tags)
    assert (
        unpacked(tags).has_empty
        == SeriesTable.of([SeriesState(each, 0, 0) for each in tags]).has_empty
        == expected
    )


def test_a_group_is_bounded_and_ends_where_the_keys_change() -> None:
    tags = [{"a": str(number)} for number in range(MAX_GROUP + 1)] + [
        {},
        {"b": "1", "c": "2"},
        {"b": "1", "c": "3"},
    ]
    groups = [(len(group.rows), group.tag_keys) for group in unpacked(tags).groups()]
    assert max(count for count, _ in groups) == MAX_GROUP
    assert sum(count for count, keys in groups if keys == ("a",)) == MAX_GROUP + 1
    assert sum(count for count, keys in groups if keys == ("b", "c")) == 2
    assert (1, ()) in groups


def test_empty_rows_and_unknown_ids_are_left_out() -> None:
    definition = define("n", "gauge")
    states = stored(definition, {0: (0.0, 9, 9, 9), 1: (1000.0, 1.5, 0, 0), 17: (1000.0, 7, 0, 0)})
    found = read_live_series(
        "n", definition, {0: pack_tags({"a": "0"}), 1: pack_tags({"a": "1"})}, states
    )
    assert found == [SeriesState({"a": "1"}, 1000, 1.5)]


def test_a_histogram_has_its_counts() -> None:
    definition = define("n", "histogram", buckets=(1, 2))
    states = stored(definition, {3: (1000.0, 4, 2.5, 0.5, 1, 2)})
    found = read_live_series("n", definition, {3: pack_tags({})}, states)
    assert found == [SeriesState({}, 1000, 3.0, 4, (1, 2))]
    assert found.seen_since(1000) == found
    assert found.seen_since(1001) == []


@pytest.mark.parametrize("tags", [b"\x81\xa1a\xa1b", b"\x91\xa1a", b"\x92\xa1a\x01", b"\xa2ab"])
def test_damaged_tags_raise(tags: bytes) -> None:
    definition = define("n", "counter")
    with pytest.raises((ValueError, TypeError, AttributeError)):
        read_live_series("n", definition, {0: tags}, stored(definition, {0: (1.0, 1, 0)}))
