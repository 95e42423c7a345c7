"""Packed and unconfirmed batches, and which errors resending can't fix."""

import re
from dataclasses import dataclass

from redis.exceptions import ResponseError

from redismetrics.errors import ScriptFailed

from .batch import MetricBatch
from .encode import EncodedBatch
from .write import WriteRequest

# Errors of a server that can't accept a write now, or not from this user. Up to Redis 6.2, they are
# inside a script's error, without their code. They may be temporary, so these samples are kept.
_TEMPORARY = re.compile(
    "NOPERM|ACL failure|user executing the script|OOM|MISCONF|READONLY|NOREPLICAS|MASTERDOWN"
    "|CLUSTERDOWN|LOADING|BUSY"
)


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """A batch without a number: its parts and its bytes."""

    batches: list[MetricBatch]
    encoded: list[EncodedBatch]


@dataclass(slots=True)
class UnconfirmedBatch:
    """A batch that was sent: its number and bytes stay the same until Redis confirms it.

    Attributes:
        first_sent: When it was first sent, by the monotonic clock.
        refusals: How often Redis rejected it because of its contents.
    """

    request: WriteRequest
    batches: list[MetricBatch]
    first_sent: float
    refusals: int = 0

    @property
    def samples(self) -> int:
        return sum(batch.samples.count for batch in self.batches)


def is_permanent(error: ScriptFailed) -> bool:
    """Return whether Redis rejected a batch for its contents, so that resending can't succeed."""
    cause = error.__cause__
    text = str(cause)
    return (
        type(cause) is ResponseError
        and ("WRONGTYPE" in text or "user_script" in text)
        and _TEMPORARY.search(text) is None
    )
