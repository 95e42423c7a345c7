"""A short chaos run: everything is killed at random, and every sample is accounted for.

Longer: `python -m tests.system.faults.chaos --help`.
"""

import pytest

from redismetrics.model.retention import DEFAULT_RETENTION
from tests.system.faults import chaos

SEED = 7


@pytest.fixture(autouse=True)
def own_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what a run sets for the whole process."""
    monkeypatch.setattr(chaos.proxies, "QUIET", chaos.proxies.QUIET)


@pytest.mark.slow
def test_every_sample_is_accounted_for_after_random_kills() -> None:
    balance, log = chaos.run(6.0, SEED)
    print(f"seed {SEED}", balance, sep="\n")
    assert balance.wrong == [], f"{balance}\n{log[-3_000:]}"
    assert chaos.bugs(log) == []
    assert balance.recorded == balance.stored + balance.dropped.total() + balance.lost
    assert balance.recorded >= balance.stored > 100
    assert 0 <= balance.lost <= balance.unconfirmed
    assert min(balance.events[f"{who} killed"] for who in ("writer", "worker", "server")) > 0
    assert balance.queries > 10


@pytest.mark.slow
def test_without_the_guard_the_counts_are_wrong() -> None:
    # Ends with the first wrong result, after a second or two.
    balance, _ = chaos.run(60.0, SEED, guarded=False)
    assert any("the sum of" in each or "expected" in each for each in balance.wrong), balance


def test_the_samples_of_a_writer_depend_on_the_seed_only() -> None:
    def first(seed: int, number: int) -> list[chaos.Fact]:
        return chaos.Ledger(seed, 1_700_000_000_000).first(number, 500)

    assert first(1, 1) == first(1, 1)
    assert first(1, 1) != first(1, 2) != first(2, 1)
    assert {fact.metric for fact in first(1, 1)} == set(chaos.METRICS)
    assert DEFAULT_RETENTION.raw.retention > chaos.BACK


def test_a_book_survives_its_process(tmp_path: chaos.Path) -> None:
    path = tmp_path / "book"
    chaos.Book(path).recorded = 5
    chaos.Book(path).confirmed = 3
    assert (chaos.Book(path).recorded, chaos.Book(path).confirmed) == (5, 3)
