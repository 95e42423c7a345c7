"""The buffers that recording calls append to."""

from collections.abc import Callable
from typing import Any, Protocol

from redismetrics.model.definition import Definition
from redismetrics.model.sample import Distribution
from redismetrics.model.time import Clock
from redismetrics.model.validation import MetricType


class Buffer:
    """The unsent samples of one series.

    *values* holds a counter's amounts, or `time, value, time, value, ...`, where a negative time marks a change of a gauge's
    shared value. *extra* holds the samples with a time of their own or metadata: (time in ms, own time?, value, JSON or
    None). *wholes* are distributions, each with its time in ms. *idle* counts the flushes that found it empty.
    """

    __slots__ = ("canonical", "extra", "idle", "values", "wholes")

    def __init__(self, canonical: bytes) -> None:
        self.canonical = canonical
        self.values: list[float] = []
        self.extra: list[tuple[int, bool, float, bytes | None]] = []
        self.wholes: list[tuple[int, Distribution]] = []
        self.idle = 0


class MetricBuffers:
    """What this process knows of one metric, with the buffers of its series.

    *explicit*: the type was said, not guessed. *declared*: by `declare`. *learned*: the definition is the catalogue's. *ids* are
    the store's numbers of series, by canonical tags, as far as the flusher learned them. *until_ms* is when another took its
    place: what it still holds is older.
    """

    __slots__ = (
        "buffers",
        "declared",
        "definition",
        "explicit",
        "ids",
        "learned",
        "name",
        "until_ms",
    )

    def __init__(
        self, name: str, definition: Definition, *, explicit: bool, declared: bool = False
    ) -> None:
        self.name = name
        self.definition = definition
        self.explicit = explicit
        self.declared = declared
        self.learned = False
        self.buffers: dict[bytes, Buffer] = {}
        self.ids: dict[bytes, int] = {}
        self.until_ms: int | None = None


class Handle(Protocol):
    """What is bound to a buffer: see verbs.py."""

    name: str
    tags: dict[str, str]
    kind: MetricType
    _buffer: Buffer | None
    _clock: Clock
    _append: Callable[[Any], None]

    def _unbind(self) -> None: ...
