"""Due slots as text, as members of `pending`, and what they are downsampled from."""

import pytest

from redismetrics.model.retention import DEFAULT_RETENTION
from redismetrics.model.time import DAY, HOUR
from redismetrics.store.due_slot import PARTITION, SWEEP, TRIM, DueSlot, coarser

START = 1_700_006_400_000

TEXTS = {
    "hour 1700006400 3": DueSlot("hour", START, 3),
    "day 1700006400 0": DueSlot("day", START, 0),
    "span 1700006400 12": DueSlot(PARTITION, START, 12),
    "fold-minute 1700006400 3": DueSlot.merge("minute", START, 3),
    "trim 0 0": TRIM,
    "sweep 0 0": SWEEP,
}


@pytest.mark.parametrize("text", TEXTS)
def test_stored_text_round_trip(text: str) -> None:
    slot = TEXTS[text]
    assert slot.field == text
    assert DueSlot.parse(text) == DueSlot.parse(text.encode()) == slot
    member = slot.pending_member("a metric with spaces")
    assert member == f"{text} a metric with spaces"
    assert DueSlot.parse_pending(member.encode()) == (slot, "a metric with spaces")


@pytest.mark.parametrize("text", ["", "hour", "hour 1700006400", "hour now 3", "hour 1 2 3"])
def test_other_text_is_rejected(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        DueSlot.parse(text)


def test_merged_is_the_resolution_of_a_merge_only() -> None:
    merged = {text: slot.merged for text, slot in TEXTS.items() if slot.merged is not None}
    assert merged == {"fold-minute 1700006400 3": "minute"}
    assert DueSlot.merge("day", 0, 0).kind == DueSlot.merge("minute", 0, 0).kind


def test_source_is_the_next_finer_resolution() -> None:
    minute, hour, day = DEFAULT_RETENTION.resolutions
    found = [slot.source(DEFAULT_RETENTION) for slot in TEXTS.values()]
    assert found == [minute, hour, day, None, None, None]
    assert DueSlot("minute", START, 0).source(DEFAULT_RETENTION) is None
    assert DueSlot("raw", START, 0).source(DEFAULT_RETENTION) is None


def test_coarser_slots_end_with_the_partition_of_the_coarsest() -> None:
    minute, hour, day = DEFAULT_RETENTION.resolutions
    assert coarser(DEFAULT_RETENTION, minute) == [
        ("hour", HOUR),
        ("day", DAY),
        (PARTITION, 32 * DAY),
    ]
    assert coarser(DEFAULT_RETENTION, DEFAULT_RETENTION.raw) == coarser(DEFAULT_RETENTION, minute)
    assert coarser(DEFAULT_RETENTION, hour) == [("day", DAY), (PARTITION, 32 * DAY)]
    assert coarser(DEFAULT_RETENTION, day) == [(PARTITION, 32 * DAY)]
