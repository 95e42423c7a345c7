"""Resolutions and retention policies."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismetrics.model.retention import DEFAULT_RETENTION, Resolution, RetentionPolicy
from redismetrics.model.time import DAY, HOUR, MINUTE
from redismetrics.settings import Settings, retention_policy


def test_the_defaults_of_the_settings_are_the_default_retention() -> None:
    assert retention_policy(Settings()) == DEFAULT_RETENTION


def test_each_resolution_is_a_multiple_of_the_finer_one_and_kept_longer() -> None:
    for finer, coarser in pairwise(DEFAULT_RETENTION.resolutions):
        assert coarser.width % finer.width == 0
        assert coarser.retention > finer.retention
        assert finer.partition == coarser.width  # what a coarser slot is made of stands in one key


def test_a_policy_survives_describe_and_parse() -> None:
    text = DEFAULT_RETENTION.describe()
    assert text == "raw:86400 minute:259200 hour:7776000 day:157680000"
    assert RetentionPolicy.parse(text) == DEFAULT_RETENTION
    for wrong in ("", "minute:60", "raw:1 minute:2 hour:3 day:x", "raw:1 minute:2 day:3 hour:4"):
        with pytest.raises(ValueError, match=r"expected|must be|convert"):
            RetentionPolicy.parse(wrong)


@given(st.integers(0, 1 << 42), st.integers(1, 100 * DAY), st.sampled_from([HOUR, DAY]))
def test_kept_partitions_are_those_that_are_not_expired(
    now_ms: int, retention: int, span_ms: int
) -> None:
    level = Resolution("level", MINUTE, span_ms, retention, 0)
    first = level.kept_from(now_ms)
    assert not level.is_expired(first, now_ms)
    assert first == 0 or level.is_expired(first - span_ms, now_ms)
