"""The record-side state of a metric, as scripts write it; see lua/include/record_state.lua."""

import struct
from typing import NamedTuple

_FORM = struct.Struct("<13d")
# One field alone: `next_id`, `sealed`.
_NEXT_ID, _SEALED = struct.Struct("<d96x"), struct.Struct("<48xd48x")


class RecordState(NamedTuple):
    """What record.lua and commit.lua keep of a metric: a field of the hash `recorded`.

    Attributes:
        next_id: Id of the next new series.
        epoch: Grows whenever series are removed: ids are valid within one epoch.
        next_change: Number of the next change of the totals.
        first_change: Number of the oldest change that is not folded.
        change_bytes: Bytes of the changes that are not folded.
        folded: Clock in us when a worker last folded the changes.
        sealed: Clock up to which the log is sealed.
        log_bytes: Bytes of the log.
        oldest: No block of the log has a smaller clock; 0: it was never written to.
        waiting: Clock of the oldest block that is not sealed.
        samples: Samples ever recorded.
        never_sealed: Samples that were cut from the log before they were sealed.
        cut: Clock of the newest block taken off the log; 0: none was.
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
        """Decode a field of the hash `recorded`; None is that of a new metric.

        Damaged bytes raise errors of many types; call it within `reading`.
        """
        return cls(*map(int, _FORM.unpack(data))) if data else cls()

    def pack(self) -> bytes:
        return _FORM.pack(*self)


def next_id(data: bytes | None) -> int:
    """Return the field `next_id` of a state, without decoding the others.

    Damaged bytes raise errors of many types; call it within `reading`.
    """
    return int(_NEXT_ID.unpack(data)[0]) if data else 0


def sealed_clock(data: bytes | None) -> int:
    """Return the field `sealed`, as `next_id` does."""
    return int(_SEALED.unpack(data)[0]) if data else 0
