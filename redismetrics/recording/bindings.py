"""The fast paths from a recording call to the buffer of its series, without any checks."""

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from redismetrics.model.validation import MetricType, Tags

from .buffers import Buffer

if TYPE_CHECKING:
    from .instruments import Instrument

# Maximum number of series that unbound calls find by name and tags, and of idle buffers to keep.
CACHED = 50_000
# Series with more bytes of tags are not cached: the caches would take 50,000 times as many.
CACHED_TAG_BYTES = 1_000


class Bindings:
    """The bound instruments of one recorder, and the caches of calls like `increment(name)`.

    Attributes:
        counters: Functions that take an amount, by name and tags of a series.
        gauges: Functions that take (time, value), by name and tags of a series.
        histograms, summaries: The same.
    """

    def __init__(self) -> None:
        self.counters: dict[Any, Callable[[float], None]] = {}
        self.gauges: dict[Any, Callable[[tuple[float, float]], None]] = {}
        self.histograms: dict[Any, Callable[[tuple[float, float]], None]] = {}
        self.summaries: dict[Any, Callable[[tuple[float, float]], None]] = {}
        self._instruments: weakref.WeakSet[Instrument] = weakref.WeakSet()

    def add(self, instrument: "Instrument") -> None:
        """Arrange for *instrument* to be unbound when its buffer is replaced."""
        self._instruments.add(instrument)

    def remember(
        self, name: str, kind: MetricType, tags: Tags | None, buffer: Buffer
    ) -> Callable[[], None]:
        """Let the next call find the buffer with one lookup; return a function that undoes this.

        Only done if all tag values are text, because 1, 1.0 and True are equal as dict keys.
        """
        caches: dict[MetricType, dict[Any, Any]] = {
            "counter": self.counters,
            "gauge": self.gauges,
            "histogram": self.histograms,
            "summary": self.summaries,
        }
        cache = caches.get(kind)
        if cache is None:
            return _nothing
        if tags and any(value.__class__ is not str for value in tags.values()):
            return _nothing
        if len(buffer.canonical) > CACHED_TAG_BYTES:
            return _nothing
        if len(cache) >= CACHED:
            cache.clear()
        key: Any = (name, *tags, *tags.values()) if tags else name
        cache[key] = buffer.values.append if kind == "counter" else buffer.values.extend
        return lambda: cache.pop(key, None)

    def clear_caches(self) -> None:
        """Make every unbound call look up its buffer again."""
        for cache in (self.counters, self.gauges, self.histograms, self.summaries):
            cache.clear()

    def unbind(self, name: str | None = None) -> None:
        """Make every unbound call, and the instruments of metric *name* (or all), look up again."""
        self.clear_caches()
        for instrument in list(self._instruments):
            if name is None or instrument.name == name:
                instrument.unbind()

    def buffers(self) -> set[Buffer]:
        """Return the buffers of bound instruments, which are kept however long they are idle."""
        return {
            instrument.buffer
            for instrument in list(self._instruments)
            if instrument.buffer is not None
        }


def followed_by(append: Callable[[Any], None], then: Callable[[], object]) -> Callable[[Any], None]:
    """Return a function that calls *append* with its item, then *then*."""

    def both(item: Any) -> None:
        append(item)
        then()

    return both


def _nothing() -> None:
    """Do nothing: there is nothing to undo."""
