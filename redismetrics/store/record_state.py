"""The record-side state of a metric, written by scripts; see lua/include/record_state.lua."""

import struct
from typing import NamedTuple

_FORM = struct.Struct("<13d")
# One field alone: `next_id`, `sealed`.
_NEXT_ID, _SEALED = struct.Struct("<d96x"), struct.Struct("<48xd48x")


class RecordState(NamedTuple):
    """The state that record.lua and commit.lua keep per metric: a field of the hash `recorded`.

    Attributes:
        next_id: Id of the next new series.
        epoch: Grows whenever series are removed: ids are valid within one epoch.
        next_change: Number of the next change of the totals.
        first_change: Number of the oldest change that has not been folded.
        change_bytes: Bytes of the changes that have not been folded.
        folded: Clock in µs when a worker last folded the changes.
        sealed: Clock up to which the log is sealed.
        log_bytes: Bytes of the log.
        oldest: No block of the log has a smaller clock; 0 if it was never written.
        waiting: Clock of the oldest unsealed block.
        samples: Samples ever recorded.
        never_sealed: Samples that were cut from the log before being sealed.
        cut: Clock of the newest block removed from the log; 0 if there is none.
    """

    next_id: int = 0
    epoch: int = 0
    next_change: int = 0
    first_change: int = 0
    change_bytes: int = 0
    folded: int = 0
    sealed: int = 0
    log_bytes: int = 0
    oldest: int = 0
    waiting: int = 0
    samples: int = 0
    never_sealed: int = 0
    cut: int = 0

    @classmethod
    def unpack(cls, data: bytes | None) -> "RecordState":
        """Decode a field of the hash `recorded`; None stands for a new metric.

        Damaged bytes raise errors of many types; call it inside `reading`.
        """
        return cls(*map(int, _FORM.unpack(data))) if data else cls()

    def pack(self) -> bytes:
        return _FORM.pack(*self)


def next_id(data: bytes | None) -> int:
    """Return the field `next_id` of a state, without decoding the others.

    Damaged bytes raise errors of many types; call it inside `reading`.
    """
    return int(_NEXT_ID.unpack(data)[0]) if data else 0


def sealed_clock(data: bytes | None) -> int:
    """Return the field `sealed`, like `next_id`."""
    return int(_SEALED.unpack(data)[0]) if data else 0
