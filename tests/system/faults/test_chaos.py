"""The chaos run, short: everything is killed at random, and the books balance.

Longer: `python -m tests.system.faults.chaos --help`.
"""

import pytest

from redismetrics.model.retention import DEFAULT_RETENTION
from tests.system.faults import chaos

SEED = 7


@pytest.fixture(autouse=True)
def own_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run sets for its whole process is taken back."""
    monkeypatch.setattr(chaos.proxies, "QUIET", chaos.proxies.QUIET)


def test_the_books_balance_whatever_is_killed() -> None:
    balance, said = chaos.run(6.0, SEED)
    print(f"seed {SEED}", balance, sep="\n")
    assert balance.wrong == [], f"{balance}\n{said[-3_000:]}"
    assert chaos.bugs(said) == []
    assert balance.recorded == balance.stored + balance.dropped.total() + balance.lost
    assert balance.recorded >= balance.stored > 100
    assert 0 <= balance.lost <= balance.unconfirmed
    assert min(balance.events[f"{who} killed"] for who in ("writer", "worker", "server")) > 0
    assert balance.answers > 10


def test_without_the_guard_of_the_script_the_books_do_not_balance() -> None:
    balance, _ = chaos.run(
        60.0, SEED, guarded=False
    )  # ends as soon as an answer is wrong: after a second or two
    assert any("the sum of" in each or "wanted" in each for each in balance.wrong), balance


def test_a_writer_s_samples_follow_from_the_seed_alone() -> None:
    def first(seed: int, number: int) -> list[chaos.Fact]:
        return chaos.Ledger(seed, 1_700_000_000_000).first(number, 500)

    assert first(1, 1) == first(1, 1)
    assert first(1, 1) != first(1, 2) != first(2, 1)
    assert {fact.metric for fact in first(1, 1)} == set(chaos.METRICS)
    assert DEFAULT_RETENTION.raw.retention > chaos.BACK


def test_a_book_outlives_its_process(tmp_path: chaos.Path) -> None:
    path = tmp_path / "book"
    chaos.Book(path).recorded = 5
    chaos.Book(path).confirmed = 3
    assert (chaos.Book(path).recorded, chaos.Book(path).confirmed) == (5, 3)
