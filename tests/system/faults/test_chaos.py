"""A short chaos run: everything is killed at random, and every sample is accounted for.

Longer: `python -m tests.system.faults.chaos --help`.
"""

import itertools
from pathlib import Path

import pytest

from redismetrics.model.retention import DEFAULT_RETENTION
from tests.system.faults import proxy
from tests.system.faults.chaos import clocks, facts, run
from tests.system.faults.chaos.facts import Book, Ledger

SEED = 7


@pytest.fixture(autouse=True)
def own_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what a run sets for the whole process."""
    monkeypatch.setattr(proxy, "QUIET", proxy.QUIET)


@pytest.mark.slow
def test_every_sample_is_accounted_for_after_random_kills() -> None:
    # Then each kind of fault that has not happened yet, once.
    balance, log = run.run(0.5, SEED)
    print(f"seed {SEED}", balance, sep="\n")
    assert balance.wrong == [], f"{balance}\n{log[-3_000:]}"
    assert run.bugs(log) == []
    assert balance.recorded == balance.accounted
    assert balance.recorded >= balance.stored > 100
    assert 0 <= balance.lost <= balance.unconfirmed
    assert min(balance.events[f"{who} killed"] for who in ("writer", "worker", "server")) > 0
    assert min(balance.events[f"writer clock {how}"] for how in ("moved", "far away")) > 0
    assert balance.events["server clock moved"] > 0 or not clocks.movable()
    checks = ("totals", "samples", "pages", "samples of the stream", "slots")
    assert min(balance.checks[what] for what in checks) > 0


@pytest.mark.slow
def test_without_the_guard_the_counts_are_wrong() -> None:
    # Ends with the first wrong result, after a second or two.
    balance, _ = run.run(60.0, SEED, guarded=False)
    assert any("the sum of" in each or "expected" in each for each in balance.wrong), balance


def test_the_samples_of_a_writer_depend_on_the_seed_only() -> None:
    def first(seed: int, number: int) -> list[facts.Fact]:
        return list(itertools.islice(facts.facts(seed, number, 1_700_000_000_000), 500))

    assert first(1, 1) == first(1, 1)
    assert first(1, 1) != first(1, 2) != first(2, 1)
    assert {fact.metric for fact in first(1, 1)} == set(facts.METRICS)
    assert {fact.metric for fact in first(1, 2)} == set(facts.METRICS) - set(facts.TIMED)
    assert DEFAULT_RETENTION.raw.retention > facts.BACK


def test_each_value_and_each_sum_fits_its_series_only() -> None:
    series = [(m, w, t) for m in facts.METRICS for w in range(1_000) for t in facts.TAGS]
    numbers = {facts.series_number(*each) for each in series}
    assert len(numbers) == len(series)
    assert max(numbers) < facts.STEP
    values: dict[tuple[str, int, str], list[int]] = {}
    for fact in itertools.islice(facts.facts(1, 3, 0), 500):
        values.setdefault((fact.metric, 3, fact.tag), []).append(fact.value)
    assert len(values) == 9
    for one, own in values.items():
        for other in values:
            assert facts.fits(*other, 1, own[0]) == (one == other)
            assert facts.fits(*other, len(own), sum(own)) == (one == other)


def test_a_ledger_lists_each_series_in_the_order_of_recording() -> None:
    ledger = Ledger(1, 0)
    for count in (100, 500):
        plain = [
            (at, fact.value)
            for at, fact in enumerate(itertools.islice(facts.facts(1, 3, 0), count))
            if (fact.metric, fact.tag) == ("jobs", "y")
        ]
        found = ledger.series("jobs", 3, "y", count)
        assert list(zip(found.at, found.values, strict=True)) == plain
        assert found.before(50) == sum(at < 50 for at, _ in plain)
        assert found.sums[-1] == sum(value for _, value in plain)


def test_a_ledger_survives_its_process(tmp_path: Path) -> None:
    path = tmp_path / "book"
    Book(path).recorded = 5
    Book(path).confirmed = 3
    Book(path).dropped = 1
    Book(path).offset_ms = -7
    book = Book(path)
    assert (book.recorded, book.confirmed, book.dropped, book.offset_ms) == (5, 3, 1, -7)
