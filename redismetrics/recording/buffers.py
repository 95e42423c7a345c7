"""The buffers that recording calls append to."""

from redismetrics.model.definition import Definition
from redismetrics.model.options import Options
from redismetrics.model.sample import Distribution

from .known_series import KnownSeries


class Buffer:
    """The unsent samples of one series.

    A buffer consists of plain lists, and recording is one atomic operation on one of them.

    Attributes:
        values: A counter's amounts; for other metrics ``time, value, time, value, ...``, where a
            negative time marks a change of a gauge's shared value.
        extra: Samples with an explicit time or metadata, as (time in ms, explicit time?, value,
            packed metadata or None).
        distributions: Distributions, each with its time in ms.
        idle: The number of flushes in a row that found the buffer empty.
    """

    __slots__ = ("canonical", "distributions", "extra", "idle", "values")

    def __init__(self, canonical: bytes) -> None:
        self.canonical = canonical
        self.values: list[float] = []
        self.extra: list[tuple[int, bool, float, bytes | None]] = []
        self.distributions: list[tuple[int, Distribution]] = []
        self.idle = 0

    @property
    def is_empty(self) -> bool:
        return not (self.values or self.extra or self.distributions)

    def clear(self) -> None:
        """Forget all samples."""
        self.values.clear()
        self.extra.clear()
        self.distributions.clear()


class MetricBuffers:
    """What this process knows about one metric, with the buffers of its series.

    Attributes:
        explicit: Whether the type was given by the caller, not inferred.
        declared: Whether the definition comes from `declare`.
        learned: Whether the definition is the one in Redis.
        given_options: The options last given to `declare` in this process; None if there were none.
        stored_options: The options that Redis is known to hold: the same object, or an older one.
        known_series: The series that the sender knows to be in Redis.
        exemplars: Exemplars for the next flush, by canonical tags and bucket: time in ms, value,
            labels.
        current: For infos and state sets, the series that was set last, by its tags without labels
            or state.
        nbytes: Bytes of the tags of all buffers.
        until_ms: When it was replaced; its samples are older than that. None while it is in use.
    """

    __slots__ = (
        "buffers",
        "current",
        "declared",
        "definition",
        "exemplars",
        "explicit",
        "given_options",
        "known_series",
        "learned",
        "name",
        "nbytes",
        "stored_options",
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
        self.given_options: Options | None = None
        self.stored_options: Options | None = None
        self.buffers: dict[bytes, Buffer] = {}
        self.exemplars: dict[tuple[bytes, int], tuple[int, float, bytes]] = {}
        self.current: dict[bytes, bytes] = {}
        self.nbytes = 0
        self.known_series = KnownSeries()
        self.until_ms: int | None = None

    @property
    def is_fixed(self) -> bool:
        """Whether the type can't change, because a caller gave it or Redis holds it."""
        return self.explicit or self.learned

    @property
    def has_new_options(self) -> bool:
        """Whether Redis may not yet hold the options given to `declare` here."""
        return self.given_options is not self.stored_options

    @property
    def states(self) -> tuple[str, ...] | None:
        """The states of a state set, if they are known."""
        given = None if self.given_options is None else self.given_options.states
        return self.definition.options.states if given is None else given

    def has_series(self, most: int) -> bool:
        """Return whether the limit of series is reached: *most*, or the metric's own limit."""
        return len(self.buffers) >= (self.definition.options.max_series or most)

    def waiting(self) -> int:
        """Return the number of samples in the buffers."""
        width = 1 if self.definition.type == "counter" else 2
        total = 0
        for buffer in list(self.buffers.values()):
            total += len(buffer.values) // width + len(buffer.extra)
            if buffer.distributions:
                total += sum(whole.count for _, whole in buffer.distributions[:])
        return total
