"""Messages of the stream, and their decoded blocks, which are shared by all feeds of a client."""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice

from redismetrics.columnar import block_codec
from redismetrics.columnar.block_codec import Block

# Bytes of a message from which decoding it, or building its samples, would block an event loop for
# more than about 2 ms. A block has at most as many rows as bytes.
LARGE = 2048

# Blocks to process together, and their bytes; a larger single block is a separate batch. Unknown
# data about their metrics is read in one go.
BATCH_BLOCKS, BATCH_BYTES = 512, 1 << 17

# Decoded blocks to keep for the other feeds of a client, and their bytes; and the bytes per row of
# a decoded block.
_MAX_BLOCKS, _MAX_BYTES = 64, 64 << 20
_ROW_BYTES = 50


def batch_length(sizes: Iterable[int]) -> int:
    """Return how many of the blocks of these sizes, in bytes, are one batch."""
    count = total = 0
    for size in islice(sizes, BATCH_BLOCKS):
        total += size
        if count and total > BATCH_BYTES:
            break
        count += 1
    return count


class DecodedBlocks:
    """The most recently decoded blocks: feeds that are not far apart share the work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: OrderedDict[bytes, Block] = OrderedDict()
        self._bytes = 0

    def decode(self, data: bytes) -> Block:
        """Return the block of a message. It is shared, so it must not be modified.

        Raises:
            FormatMismatch: If *data* is corrupt or of another version.
        """
        with self._lock:
            block = self._blocks.get(data)
        if block is None:
            block = block_codec.unpack(data)
            with self._lock:
                self._keep(data, block)
        return block

    def _keep(self, data: bytes, block: Block) -> None:
        size = _size(data, block)
        if data in self._blocks or size > _MAX_BYTES:
            return
        self._blocks[data] = block
        self._bytes += size
        while len(self._blocks) > _MAX_BLOCKS or self._bytes > _MAX_BYTES:
            self._bytes -= _size(*self._blocks.popitem(last=False))


def _size(data: bytes, block: Block) -> int:
    return len(data) + _ROW_BYTES * len(block.samples)


class Message:
    """A message published by Redis: the channel, and a block with the stamp of its metric."""

    __slots__ = ("_blocks", "channel", "data")

    def __init__(self, channel: bytes, data: bytes, blocks: DecodedBlocks) -> None:
        self.channel = channel
        self.data = data
        self._blocks = blocks

    def decode(self) -> Block:
        """Return its block; see `DecodedBlocks.decode`."""
        return self._blocks.decode(self.data)
