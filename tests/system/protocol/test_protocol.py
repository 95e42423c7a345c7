"""The protocol neither loses nor doubles a sample, and depends on each of its rules."""

import pytest

from tests.system.protocol.oracle import Oracle
from tests.system.protocol.protocol import ALL_RULES, BUDGET, Rule, Sample
from tests.system.protocol.runs import WEATHERS, Run, history

# Seeds in each weather; `python -m tests.system.protocol` plays more.
RUNS = 30
# Seeds to search for a rule whose own seeds find nothing any more, since the model has changed.
SEARCHED = 400

# For each rule: the weather in which a run fails soonest without it, and the first such seeds.
BREAKS: dict[Rule, tuple[str, tuple[int, ...]]] = {
    Rule.DUE_UNREAD: ("calm", (0, 1, 2)),
    Rule.DISTINCT_BLOCKS: ("crowd", (0, 1, 2)),
    Rule.FINER_FIRST: ("calm", (0, 1, 2)),
    Rule.PERSIST: ("calm", (0, 1, 4)),
    Rule.PERSIST_AT_MARK: ("calm", (72, 86, 94)),
    Rule.PERSIST_ALL_CHUNKS: ("calm", (0, 6, 7)),
    Rule.BUILT_THOUGH_PAST: ("calm", (0, 2, 6)),
    Rule.MARGIN: ("idle", (5, 13, 18)),
    Rule.AGE_AT_RECORD: ("clocks", (2, 3, 4)),
    Rule.AGE_AT_SEALING: ("clocks", (0, 3, 26)),
    Rule.AGE_AT_COMMIT: ("idle", (86, 112, 131)),
    Rule.SAME_BLOCKS: ("calm", (2, 4, 5)),
    Rule.TOKEN: ("failovers", (5, 44, 342)),
    Rule.WORKER_BRACKET: ("failovers", (2, 4, 7)),
    Rule.WHOLE_READ: ("calm", (0, 1, 3)),
    Rule.SAME_AS_PLANNED: ("calm", (3, 11, 12)),
    Rule.COUNT_CUT: ("calm", (1, 2, 3)),
    Rule.MARK: ("calm", (0, 1, 2)),
    Rule.FIXED_BATCH: ("clocks", (0, 1, 2)),
    Rule.UNCONFIRMED_IS_UNKNOWN: ("clocks", (0, 1, 2)),
    Rule.WRITER_KEPT: ("calm", (0, 1, 3)),
    Rule.PRUNE_BY_SCRIPT: ("ages", (12, 19, 22)),
    Rule.UNKNOWN_REFUSED: ("ages", (6, 9, 10)),
    Rule.IDS_NEVER_REUSED: ("ages", (0, 5, 11)),
    Rule.FORGETFUL: ("births", (45, 65, 83)),
    Rule.GIVEN_UP_FORGETS: ("outages", (69, 101, 225)),
    Rule.EXACT_ONLY_IF_WHOLE: ("crowd", (0, 1, 9)),
    Rule.CELL_OVER_SEGMENT: ("calm", (0, 1, 2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("weather", WEATHERS)
def test_with_all_rules_no_sample_is_lost_or_doubled(weather: str) -> None:
    for seed in range(RUNS):
        if Run(seed, weather).violations:
            pytest.fail(history(seed, weather, ALL_RULES))


@pytest.mark.parametrize("rule", Rule, ids=lambda rule: f"{rule.number}-{rule.name}")
def test_without_any_one_rule_samples_are_lost_or_doubled(rule: Rule) -> None:
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


def test_history_of_a_failed_run_says_what_went_wrong() -> None:
    text = history(0, "crowd", ALL_RULES - {Rule.FIXED_BATCH})
    assert text.startswith("seed 0, weather 'crowd', without rules: FIXED_BATCH\nCOUNTS: ")
    assert "gets no reply" in text


SAMPLES = {number: Sample(number, "a", 1000 + 4 * number) for number in range(3)}
WINDOWS = [(1000, 1006), (1006, 1012)]
RIGHT = [[(0, "a"), (1, "a")], [(2, "a")]]


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (RIGHT, []),
        ([[(0, "a"), (1, "a")], []], ["#2(a@1008) is missing"]),
        ([[(0, "a"), (1, "a")], [(1, "a"), (2, "a")]], ["#1(a@1004) is read 2 times"]),
        ([[(0, "a")], [(1, "a"), (2, "a")]], ["#1(a@1004) is read in (1006, 1012)"]),
        ([[(0, "a"), (1, "b")], [(2, "a")]], ["#1(a@1004) is read as b"]),
        (
            [[(0, "a"), (1, "a")], [(2, "a"), (7, "a")]],
            ["#7 was never recorded, or is counted as dropped"],
        ),
    ],
)
def test_oracle_finds_wrong_results(answer: list[list[tuple[int, str]]], wrong: list[str]) -> None:
    oracle = Oracle(SAMPLES, frozenset(), SAMPLES, frozenset(), time=1012)
    assert list(oracle.judge(WINDOWS, answer)) == wrong


def test_oracle_accepts_a_crowded_minute_in_the_window_of_its_start() -> None:
    crowd = {number: Sample(number, "a", 1005 + number % 2) for number in range(BUDGET + 1)}
    oracle = Oracle(crowd, frozenset(), crowd, frozenset(), time=1012)
    together = [[(number, "a") for number in crowd], []]
    assert list(oracle.judge(WINDOWS, together)) == []


def test_oracle_requires_no_samples_recorded_since_or_dropped() -> None:
    since = Oracle({}, frozenset(), SAMPLES, frozenset(), time=1012)
    dropped = Oracle(SAMPLES, frozenset(), SAMPLES, frozenset(SAMPLES), time=1012)
    for oracle in (since, dropped):
        assert list(oracle.judge(WINDOWS, [[], []])) == []
        assert list(oracle.judge(WINDOWS, RIGHT)) == []
