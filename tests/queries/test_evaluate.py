"""Rollups and digests."""

import numpy as np
import pytest

from redismetrics import (
    Metrics,
)
from tests.fixtures.queries import VALUES, at


def test_rollup_key_has_the_values_in_the_order_of_group_by(grouped: Metrics) -> None:
    assert grouped.rollup("score", group_by=["model", "dataset"]) == {
        "/": {"mean": 16, "count": 1},
        "llama-3.1/": {"mean": 8, "count": 1},
        "llama-3.1/scifact": {"mean": 3, "count": 2},
        r"qwen/\0": {"mean": 32, "count": 1},
        "qwen/fever": {"mean": 1, "count": 1},
    }
    by_dataset = grouped.rollup(
        "score", group_by=["dataset", "model"], aggregations="sum", keys="tuple"
    )
    assert list(by_dataset.items()) == [
        ((None, None), {"sum": 16}),
        ((None, "llama-3.1"), {"sum": 8}),
        (("", "qwen"), {"sum": 32}),
        (("fever", "qwen"), {"sum": 1}),
        (("scifact", "llama-3.1"), {"sum": 6}),
    ]


def test_rollup_without_groups_has_one_key(grouped: Metrics) -> None:
    assert grouped.rollup("score") == {"": {"mean": 10.5, "count": 6}}
    assert grouped.rollup("score", keys="tuple") == {(): {"mean": 10.5, "count": 6}}


def test_different_groups_have_different_keys(metrics: Metrics) -> None:
    values = [None, "", "/", "\\", "\\/", "\\0", "0", "a/", "/a", "a", "//"]
    for number, (one, two) in enumerate((one, two) for one in values for two in values):
        metrics.gauge("score", number, tags={"one": one, "two": two})
    text = metrics.rollup("score", group_by=["one", "two"], aggregations=["sum"])
    tuples = metrics.rollup("score", group_by=["one", "two"], aggregations=["sum"], keys="tuple")
    assert len(text) == len(tuples) == len(values) ** 2
    assert list(text.values()) == list(tuples.values())  # the same groups in the same order
    assert text[r"a\//\\0"] == tuples["a/", "\\0"] == {"sum": 7 * len(values) + 5}


def test_digest_holds_the_distribution_of_the_window(metrics: Metrics) -> None:
    for number, value in enumerate(VALUES):
        metrics.histogram("size", value, timestamp=at(number))
    digest = metrics.digest("size", window=(at(1), None))
    assert digest.count == len(VALUES) - 1
    assert (digest.low, digest.high) == (1.0, 9.25)
    for p in (0, 12.5, 50, 99, 100):
        assert digest.percentile(p) == pytest.approx(np.percentile(VALUES[1:], p))
