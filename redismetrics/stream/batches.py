"""Batches of blocks: unknown data of their metrics is read together."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

from redismetrics.columnar import block_codec
from redismetrics.columnar.block_codec import Block

from .catch_up import LogSlice
from .channels import Channels
from .messages import LARGE, Message, batch_length
from .steps import WantedMetric


@dataclass(frozen=True, slots=True)
class ReceivedBlock:
    """A block of the metric *name*: of a message, or of a log.

    *stamp* is that of the metric in the catalogue; b"" if it is at the end of the block.
    """

    name: str
    is_large: bool
    is_live: bool
    decode: Callable[[], Block]
    stamp: bytes = b""


@dataclass(frozen=True, slots=True)
class DecodedBlock:
    """A decoded block, and the metric that must be described to deliver it."""

    metric: WantedMetric
    block: Block
    is_large: bool


def of_messages(messages: list[Message], channels: Channels) -> list[ReceivedBlock]:
    """Return the blocks of those messages that *channels* select."""
    return [
        ReceivedBlock(name, len(message.data) > LARGE, True, message.decode)
        for message in messages
        if (name := channels.metric_of(message.channel)) is not None
    ]


def of_slice(log_slice: LogSlice) -> Iterator[list[ReceivedBlock]]:
    """Yield the blocks of a slice of the logs in batches."""
    blocks, start = log_slice.blocks, 0
    while start < len(blocks):
        end = start + batch_length(len(data) for _, data in islice(blocks, start, None))
        yield [
            ReceivedBlock(
                name,
                len(data) > LARGE,
                False,
                partial(block_codec.unpack, data),
                log_slice.stamps.get(name, b""),
            )
            for name, data in blocks[start:end]
        ]
        start = end
