"""Ids of series are valid within one epoch of their metric, and refused in any other."""

from typing import Any

import pytest

from redismetrics.recording import write
from redismetrics.recording.write import WriteReply, WriteRequest
from redismetrics.store.driver import Operation
from tests.recording.helpers import NEVER, Make, balanced


@pytest.fixture
def replies(monkeypatch: pytest.MonkeyPatch) -> list[WriteReply]:
    """The replies to all batches that are sent from now on."""
    found: list[WriteReply] = []
    record = write.record

    def recording(sent: WriteRequest, *others: Any) -> Operation[WriteReply]:
        reply = yield from record(sent, *others)
        found.append(reply)
        return reply

    monkeypatch.setattr(write, "record", recording)
    return found


@pytest.mark.parametrize("whole", [True, False])
def test_ids_of_a_deleted_series_are_refused_once_and_replaced(
    make: Make, replies: list[WriteReply], whole: bool
) -> None:
    metrics, other = make(flush_interval=NEVER), make(flush_interval=NEVER)
    for tag in "bc":
        metrics.increment("jobs", 5, tags={"a": tag})
    metrics.flush()
    assert other.delete_metric("jobs") if whole else other.delete_series("jobs", {"a": "b"}) == 1
    metrics.increment("jobs", 2, tags={"a": "b"})
    metrics.increment("jobs", 3, tags={"a": "c"})
    metrics.increment("more")
    metrics.flush()
    assert [reply.problems for reply in replies] == [[], [(0, "unknown_series", b"")], []]
    (_, first_ids, first_epoch, _), (_, new_ids, new_epoch, _) = (
        learned for reply in replies for learned in reply.learned if len(learned[1]) == 2
    )
    assert (first_ids, first_epoch, new_epoch) == ([0, 1], 0, 1)
    # An id is never used again.
    assert new_ids == ([2, 3] if whole else [2, 1])
    assert metrics.query("jobs", aggregation="sum", group_by="a") == [
        {"a": "b", "sum": 2},
        {"a": "c", "sum": 3 if whole else 8},
    ]
    stats = balanced(metrics)
    assert (stats["stored"], stats["dropped"], stats["lost_batches"]) == (5, {}, 0)


def test_ids_that_are_learned_in_another_epoch_clear_older_ones(
    make: Make, replies: list[WriteReply]
) -> None:
    metrics, other = make(flush_interval=NEVER), make(flush_interval=NEVER)
    metrics.increment("jobs", tags={"a": "b"})
    metrics.flush()
    assert other.delete_series("jobs", {"a": "b"}) == 1
    # The batch names no id, so it is accepted, and its reply tells the new epoch.
    metrics.increment("jobs", 7, tags={"a": "c"})
    metrics.flush()
    metrics.increment("jobs", 5, tags={"a": "b"})
    metrics.flush()
    assert [reply.problems for reply in replies] == [[], [], []]
    learned = [(ids, epoch) for reply in replies for _, ids, epoch, _ in reply.learned]
    assert learned == [([0], 0), ([1], 1), ([2], 1)]
    assert metrics.query("jobs", aggregation="sum", group_by="a") == [
        {"a": "b", "sum": 5},
        {"a": "c", "sum": 7},
    ]
    (family,) = metrics.live("jobs")
    assert {series.tags["a"]: series.value for series in family.series} == {"b": 5, "c": 7}
