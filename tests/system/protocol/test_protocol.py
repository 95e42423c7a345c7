"""The protocol neither loses nor doubles a sample, and depends on each of its rules."""

import pytest

from tests.system.protocol.rules import ALL_RULES, Rule
from tests.system.protocol.runs import Run, history
from tests.system.protocol.test_histories import HISTORIES
from tests.system.protocol.weathers import WEATHERS

# Seeds in each weather; `python -m tests.system.protocol` plays more.
RUNS = 30
# Seeds to search for a rule whose own seeds find nothing any more, since the model has changed.
SEARCHED = 400

# For each rule: a weather in which runs soon fail without it, and the first such seeds. A rule that
# random runs hardly ever need has a history in test_histories.py instead.
BREAKS: dict[Rule, tuple[str, tuple[int, ...]]] = {
    Rule.DUE_UNREAD: ("calm", (0, 1, 3)),
    Rule.DISTINCT_BLOCKS: ("crowd", (0, 1, 2)),
    Rule.FINER_FIRST: ("calm", (0, 1, 2)),
    Rule.PERSIST: ("calm", (3, 4, 5)),
    Rule.PERSIST_AT_MARK: ("calm", (25, 137, 168)),
    Rule.PERSIST_ALL_CHUNKS: ("calm", (3, 4, 5)),
    Rule.BUILT_THOUGH_PAST: ("calm", (3, 5, 8)),
    Rule.MARGIN: ("idle", (18, 28, 43)),
    Rule.AGE_AT_RECORD: ("clocks", (0, 1, 2)),
    Rule.AGE_AT_SEALING: ("clocks", (6, 7, 11)),
    Rule.AGE_AT_COMMIT: ("idle", (78, 153)),
    Rule.SAME_BLOCKS: ("calm", (13, 16, 22)),
    Rule.TOKEN: ("alone", (189,)),
    Rule.WORKER_BRACKET: ("failovers", (28, 98, 101)),
    Rule.WHOLE_READ: ("calm", (0, 1, 10)),
    Rule.SAME_AS_PLANNED: ("calm", (2, 3, 8)),
    Rule.COUNT_CUT: ("calm", (0, 3, 4)),
    Rule.MARK: ("calm", (2, 3, 4)),
    Rule.FIXED_BATCH: ("clocks", (0, 1, 2)),
    Rule.UNCONFIRMED_IS_UNKNOWN: ("clocks", (0, 2, 3)),
    Rule.WRITER_KEPT: ("calm", (0, 1, 2)),
    Rule.PRUNE_BY_SCRIPT: ("ages", (12, 20, 37)),
    Rule.IDS_NEVER_REUSED: ("ages", (5, 15, 24)),
    Rule.FORGETFUL: ("births", (1, 2, 3)),
    Rule.GIVEN_UP_FORGETS: ("outages", (5, 20, 27)),
    Rule.EXACT_ONLY_IF_WHOLE: ("crowd", (19, 31, 42)),
    Rule.OWN_VERSION: ("calm", (8, 13, 16)),
    Rule.CELL_OVER_SEGMENT: ("calm", (2, 3, 4)),
    Rule.ONE_HASH: ("totals", (0, 3, 4)),
    Rule.SERIES_LAST: ("totals", (1, 7, 8)),
    Rule.SAME_VERSION: ("undone", (133, 454)),
    Rule.FIRST_WITH_ROWS: ("replicas", (10, 58, 88)),
    Rule.NONE_OLDER: ("replicas", (3101, 3657)),
    Rule.SAME_LAST: ("crowd", (1, 8, 13)),
    Rule.ADD_FOLDS_FIRST: ("gauges", (0, 1, 2)),
    Rule.FOLD_IN_ORDER: ("gauges", (0, 1, 2)),
    Rule.EPOCH: ("deletions", (0, 3, 5)),
    Rule.NEW_EPOCH_FORGETS: ("deletions", (21, 30, 35)),
    Rule.EPOCH_AS_PACKED: ("deletions", (14, 24, 39)),
    Rule.DELETE_BY_SCRIPT: ("undone", (337, 507, 613)),
    Rule.SEEN_IN_CHANGES: ("idle", (0, 73, 74)),
    Rule.PACKED_ANEW: ("births", (0, 1, 2)),
    Rule.REFUSED_FIRST: ("gauges", (102, 113, 561)),
    Rule.FOLD_IN_MARK: ("idle", (9, 72, 95)),
    Rule.BOUNDED: ("alone", (0, 1, 2)),
    Rule.WRITTEN_ONCE: ("deletions", (0, 1, 2)),
    Rule.HEARTBEAT: ("processes", (1, 3, 4)),
    Rule.SWEEP_AS_READ: ("idle", (1, 7, 25)),
    Rule.TAKEN_BACK: ("processes", (2, 5, 10)),
    Rule.ENDS_AT_ONCE: ("processes", (8, 9, 13)),
    Rule.UNKNOWN_KIND_STAYS: ("upgrades", (0, 1, 2)),
    Rule.NEWEST_EXEMPLAR: ("deletions", (1, 5, 6)),
    Rule.EXEMPLARS_FIRST: ("ages", (1, 2, 3)),
    Rule.NEWEST_SHOWN: ("infos", (1, 2, 3)),
    Rule.REPLACED_IS_CLEARED: ("infos", (0, 1, 2)),
    Rule.DEFINITION_AS_READ: ("outages", (7, 10, 13)),
    Rule.OPTIONS_WHOLE: ("upgrades", (0, 1, 2)),
    Rule.UNKNOWN_FIELDS_KEPT: ("upgrades", (1, 2, 3)),
    Rule.DEFINITION_OF_EPOCH: ("upgrades", (0, 1, 3)),
}

# Their runs take more than a second.
LONG_RUNS = (Rule.TOKEN, Rule.SEEN_IN_CHANGES, Rule.PERSIST_AT_MARK)


@pytest.mark.slow
@pytest.mark.parametrize("weather", WEATHERS)
def test_with_all_rules_no_sample_is_lost_or_duplicated(weather: str) -> None:
    for seed in range(RUNS):
        if Run(seed, weather).violations:
            pytest.fail(history(seed, weather, ALL_RULES))


def test_each_rule_has_runs_or_a_history_that_fail_without_it() -> None:
    assert BREAKS.keys() | set(HISTORIES.values()) == ALL_RULES


@pytest.mark.parametrize(
    "rule",
    [pytest.param(rule, marks=pytest.mark.slow) if rule in LONG_RUNS else rule for rule in BREAKS],
    ids=lambda rule: f"{rule.number}-{rule.name}",
)
def test_without_any_one_rule_samples_are_lost_or_duplicated(rule: Rule) -> None:
    weather, seeds = BREAKS[rule]
    if not any(
        Run(seed, weather, ALL_RULES - {rule}).violations for seed in (*seeds, *range(SEARCHED))
    ):
        pytest.fail(
            f"{SEARCHED} runs without {rule.name} have no violation; expected: {rule.without}"
        )


def test_seed_gives_the_same_history_again() -> None:
    text = history(0, "mixed", ALL_RULES)
    assert "sends 1" in text
    assert history(0, "mixed", ALL_RULES) == text
    assert history(1, "mixed", ALL_RULES) != text


@pytest.mark.slow
@pytest.mark.parametrize("weather", ["replicas", "failovers", "outages"])
def test_page_read_in_one_transaction_is_right_while_a_replica_changes_its_primary(
    weather: str,
) -> None:
    for seed in range(RUNS):
        assert not Run(seed, weather, in_one_step=True, strict=True).violations


def test_older_versions_meet_changes_of_a_newer_kind_and_count_them() -> None:
    runs = [Run(seed, "upgrades") for seed in range(10)]
    assert sum(run.skipped for run in runs) > 0
    assert sum(store.left for run in runs for store in run.stores) > 0


def test_history_of_a_failed_run_explains_the_failure() -> None:
    text = history(0, "crowd", ALL_RULES - {Rule.FIXED_BATCH})
    assert text.startswith("seed 0, weather 'crowd', without rules: FIXED_BATCH\nCOUNTS: ")
    assert "gets no reply" in text
