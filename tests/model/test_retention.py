"""Resolutions and retention policies."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismetrics.model.options import Options
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


# -- of one metric --------------------------------------------------------------------------------

YEAR_S = 365 * 86_400


def test_metric_without_options_has_the_policy_of_its_namespace() -> None:
    for options in (Options(), Options(max_series=5), Options(exact_samples=False)):
        assert DEFAULT_RETENTION.of_metric(options) is DEFAULT_RETENTION
        assert DEFAULT_RETENTION.readable(options, 0) is DEFAULT_RETENTION


def test_nothing_coarser_expires_before_the_samples_of_a_metric() -> None:
    policy = DEFAULT_RETENTION.of_metric(Options(exact_samples=True, retention=float(YEAR_S)))
    kept = [each.retention // DAY for each in policy.with_raw]
    assert kept == [365, 365, 365, 5 * 365]
    assert policy is DEFAULT_RETENTION.of_metric(
        Options(exact_samples=True, retention=float(YEAR_S))
    )
    assert policy.finest.points < DEFAULT_RETENTION.finest.points


def test_samples_of_a_metric_may_expire_before_those_of_others() -> None:
    policy = DEFAULT_RETENTION.of_metric(Options(retention=7200.0))
    assert policy.raw.retention == 2 * HOUR
    assert policy.resolutions == DEFAULT_RETENTION.resolutions


def test_data_stored_before_a_longer_retention_is_not_relied_on() -> None:
    began = Options(retention=5 * 86_400.0)
    longer = Options(retention=float(YEAR_S)).at(1_000 * 86_400, began)
    assert longer.kept_from == 995 * 86_400
    merged = began.updated(longer)
    # Ten days later, 15 days are there; a year later, all of a year.
    for day, kept in ((1_000, 5), (1_010, 15), (1_300, 305), (1_500, 365)):
        policy = DEFAULT_RETENTION.readable(merged, day * DAY)
        assert policy.raw.retention // DAY == kept
        assert policy.finest.retention // DAY == max(kept, 3)
        assert policy.coarsest == DEFAULT_RETENTION.coarsest
    # Longer once more.
    again = Options(retention=2.0 * YEAR_S).at(1_010 * 86_400, merged)
    assert again.kept_from == 995 * 86_400
    # The same, or shorter: nothing is missing.
    same = Options(retention=5 * 86_400.0)
    assert same.at(1_000 * 86_400, began) == same
    shorter = Options(retention=7_200.0).at(1_000 * 86_400, began)
    assert shorter == Options(retention=7_200.0, longest=5 * 86_400.0)
    assert Options(retention=3_600.0).at(0, began.updated(shorter)).longest == 5 * 86_400


def test_retention_that_is_given_for_the_first_time_relies_on_an_hour() -> None:
    assert Options(retention=7_200.0).at(10_000, Options()).kept_from == 6_400
