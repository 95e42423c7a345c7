"""Names and labels as they are stored, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismetrics.compat.prometheus import names
from redismetrics.model.validation import (
    MAX_TAG_BYTES,
    MAX_TAGS,
    TYPES,
    MetricType,
    check_name,
    clean_tags,
)

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("kind", "name", "stored"),
    [
        ("counter", "http_requests", "http_requests_total"),
        ("gauge", "queue:depth", "queue:depth"),
        ("gauge", "größe", "U__gr_F6__DF_e"),
        ("gauge", "a b_c", "U__a_20_b__c"),
        ("histogram", "U__a", "U__U____a"),
        ("gauge", "queue:gauge", "U__queue_3A_gauge"),
    ],
)
def test_names_are_kept_unless_redis_cannot_hold_them(
    kind: MetricType, name: str, stored: str
) -> None:
    assert names.stored_name(kind, name) == stored
    assert names.family_name(stored, kind) == name


@given(st.sampled_from(TYPES), TEXT)
def test_any_name_comes_back(kind: MetricType, name: str) -> None:
    stored = check_name(names.stored_name(kind, name))
    if len(stored) < 200:
        assert names.family_name(stored, kind) == name
        assert names.family_name(names.other_name(stored, kind), kind) == name


def test_a_long_name_is_cut_and_ends_in_a_hash() -> None:
    one, other = (names.stored_name("gauge", "ü" * 100 + end) for end in "ab")
    assert one != other
    assert check_name(one) == one


@given(st.dictionaries(TEXT, st.text(), max_size=100))
def test_any_labels_are_valid_tags(labels: dict[str, str]) -> None:
    tags = names.stored_tags(labels, labels.values())
    assert clean_tags(tags) == dict(sorted(tags.items()))
    assert len(tags) <= MAX_TAGS


@given(st.dictionaries(TEXT, TEXT, max_size=80))
def test_labels_come_back(labels: dict[str, str]) -> None:
    tags = names.stored_tags(labels, labels.values())
    if all(len(key) < 200 for key in tags) and len(tags.get(names.MORE_LABELS, "")) < 4000:
        shown = {names.label_name(key): value for key, value in tags.items()}
        assert names.with_more_labels(shown) == labels


def test_long_values_are_cut_and_stay_different() -> None:
    one, other = (names.stored_tags(["a"], ["é" * MAX_TAG_BYTES + end])["a"] for end in ("x", "y"))
    assert one != other
    assert len(one.encode()) <= MAX_TAG_BYTES
    assert names.stored_tags(["a"], ["\ud800"]) == {"a": "\\ud800"}


@pytest.mark.parametrize("stored", ["U__", "U___D800_", "U___110000_"])
def test_a_name_that_is_not_escaped_text_is_shown_as_it_is(stored: str) -> None:
    assert names.family_name(stored, "gauge") == stored
    assert names.label_name(stored) == stored


@pytest.mark.parametrize(
    "more",
    ["[]", "1", "null", "[" * 4000, '{"a": "\\ud800"}', '{"a": 1}', '{"": "x"}', '{"a b": "x"}'],
)
def test_a_tag_that_only_has_the_name_of_further_labels_is_shown_as_it_is(more: str) -> None:
    labels = {"queue": "mail", names.MORE_LABELS: more}
    assert names.with_more_labels(labels) == labels
