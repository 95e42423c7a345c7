"""For tests of code that records: what it recorded, without a server, and a clock that a test moves.

    def test_a_refund_is_counted(captured):  # the fixture of the pytest plugin; elsewhere `with capture() as captured:`
        refund(order, shop="de")
        captured.counter("refunds", shop="de").increased_by(1)

Only the sending end is replaced: names, tags and values are checked, and samples are gathered, as they always are.
"""

import threading
import time
from collections import Counter as Tally
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime, timedelta
from math import fsum, isclose
from typing import Any, Literal, NoReturn

from . import client, default, flusher, parcels
from .blocks import CHANGE
from .client import Client, Metrics
from .connect import LoopClients, Store
from .errors import StoreUnavailable
from .flusher import Flusher
from .model import MetricType, Sample, Tags, clean_tags, number, to_datetime, to_ms, unpack_tags
from .outbox import Outbox
from .parcels import Parcel
from .reader import metadata as read_metadata
from .recorder import NullRecorder, Recorder
from .settings import Settings
from .slots import Clock as ReadClock
from .slots import system_clock

__all__ = ["Captured", "CapturedCounter", "CapturedGauge", "CapturedHistogram", "Clock", "capture"]

_SHOWN = 30  # series in the message of a failing assertion


class Clock:
    """A clock that stands still until it is moved: ``Metrics(clock=clock)``. Begins now, or at *start*."""

    def __init__(self, start: datetime | float | None = None) -> None:
        self._now = time.time() if start is None else _seconds(start)

    def __call__(self) -> float:
        """The time, in Unix seconds."""
        return self._now

    def set(self, when: datetime | float) -> None:
        """Move it to an aware datetime or to Unix seconds, forth or back."""
        self._now = _seconds(when)

    def advance(self, by: timedelta | float) -> float:
        """Move it on by seconds or a timedelta; return the time then."""
        self._now += by.total_seconds() if isinstance(by, timedelta) else number(by, "by")
        return self._now

    def __repr__(self) -> str:
        return f"Clock({to_datetime(self._now * 1000).isoformat()})"


def _seconds(when: datetime | float) -> float:
    return to_ms(when) / 1000 if isinstance(when, datetime) else number(when, "time")


# -- what was captured --------------------------------------------------------------------------------------------


class _Captured:
    """Some series of what was captured: those of one metric that have certain tags."""

    _kind: MetricType

    def __init__(self, captured: "Captured", name: str, tags: dict[str, str | None]) -> None:
        self._captured = captured
        self.name = name
        self.tags = tags

    @property
    def samples(self) -> list[Sample]:
        """The samples, in order of their time."""
        return self._captured.samples(self.name, self.tags)

    def not_recorded(self) -> Literal[True]:
        """Assert that nothing was recorded."""
        __tracebackhide__ = True
        samples = self.samples
        return self._check(not samples, "nothing", _told(self._kind, samples))

    def _of_kind(self) -> list[Sample]:
        __tracebackhide__ = True
        samples = self.samples
        other = next((sample.type for sample in samples if sample.type != self._kind), None)
        if other is not None:
            raise AssertionError(
                f"{self.name!r} was recorded as a {other}, not as a {self._kind}{self._captured._list()}"
            )
        return samples

    def _check(self, fine: bool, wanted: str, got: str) -> Literal[True]:
        __tracebackhide__ = True
        if not fine:
            raise AssertionError(f"{self!r}: wanted {wanted}, got {got or 'nothing'}{self._captured._list()}")
        return True

    def __repr__(self) -> str:
        return f"{self._kind} {self.name}{_braces(self.tags)}"


class CapturedCounter(_Captured):
    """What was counted. The assertions raise `AssertionError` with all that was captured, else return True."""

    _kind = "counter"

    @property
    def total(self) -> float:
        """The sum of the increments."""
        return fsum(sample.value * sample.count for sample in self._of_kind())

    @property
    def count(self) -> int:
        """How many increments there were."""
        return sum(sample.count for sample in self._of_kind())

    def increased_by(self, amount: Any) -> Literal[True]:
        """Assert what the increments add up to; 0 also where there was none."""
        __tracebackhide__ = True
        samples = self._of_kind()
        return self._check(_equal(self.total, amount), f"an increase of {amount}", _told("counter", samples))


class CapturedGauge(_Captured):
    """What a gauge was set to. The assertions raise `AssertionError` with all that was captured, else return True."""

    _kind = "gauge"

    @property
    def values(self) -> list[float]:
        """All values, in order of their time. A change (`add`) is counted from what was captured, at first from 0."""
        return [sample.value for sample in self._of_kind()]

    @property
    def last(self) -> float | None:
        """The newest value, None where there was none."""
        return next(reversed(self.values), None)

    def is_now(self, value: Any) -> Literal[True]:
        """Assert the newest value."""
        __tracebackhide__ = True
        samples = self._of_kind()
        last = self.last
        return self._check(last is not None and _equal(last, value), f"{value}", _told("gauge", samples))


class CapturedHistogram(_Captured):
    """The values of a distribution. The assertions raise `AssertionError` with all that was captured, else return True."""

    _kind = "histogram"

    @property
    def values(self) -> list[float]:
        """All values, in order of their time."""
        return [value for sample in self._of_kind() for value in [sample.value] * sample.count]

    @property
    def count(self) -> int:
        """How many values there were."""
        return len(self.values)

    def recorded(self, *values: Any) -> Literal[True]:
        """Assert the values, in any order."""
        __tracebackhide__ = True
        samples = self._of_kind()
        return self._check(_same(self.values, values), ", ".join(map(str, values)), _told("histogram", samples))

    def recorded_times(self, times: int) -> Literal[True]:
        """Assert how many values there were, whatever they are."""
        __tracebackhide__ = True
        samples = self._of_kind()
        return self._check(self.count == times, f"{times} values", _told("histogram", samples))


class Captured:
    """All that was recorded since the capture began, or since `clear`, by the default client and by every other."""

    def __init__(self) -> None:
        self._memories: list[_Memory] = []
        self._samples: list[Sample] = []
        self._values: dict[tuple[int, str, bytes], float] = {}
        self._dropped_before: Tally[str] = Tally()
        self._dropped_in_all: Tally[str] | None = None

    def counter(self, name: str, tags: Tags | None = None, /, **more: Any) -> CapturedCounter:
        """The counter of that name: the series with these tags, and any others; a tag of None is missing."""
        return CapturedCounter(self, name, _wanted(tags, more))

    def gauge(self, name: str, tags: Tags | None = None, /, **more: Any) -> CapturedGauge:
        """The gauge of that name: the series with these tags, and any others; a tag of None is missing."""
        return CapturedGauge(self, name, _wanted(tags, more))

    def histogram(self, name: str, tags: Tags | None = None, /, **more: Any) -> CapturedHistogram:
        """The histogram of that name: the series with these tags, and any others; a tag of None is missing."""
        return CapturedHistogram(self, name, _wanted(tags, more))

    def samples(self, name: str | None = None, tags: Tags | None = None, /, **more: Any) -> list[Sample]:
        """The samples as they would be stored, of all metrics or of one, in order of their time."""
        self._gather()
        wanted = _wanted(tags, more)
        found = [
            sample
            for sample in self._samples
            if (name is None or sample.name == name)
            and all(sample.tags.get(key) == value for key, value in wanted.items())
        ]
        return sorted(found, key=lambda sample: sample.timestamp)

    @property
    def names(self) -> list[str]:
        """The names of the metrics that were recorded, sorted."""
        return sorted({sample.name for sample in self.samples()})

    @property
    def dropped(self) -> dict[str, int]:
        """How many samples would be dropped, by reason (see docs/settings.md)."""
        self._gather()
        return dict(self._dropped() - self._dropped_before)

    def nothing_recorded(self) -> Literal[True]:
        """Assert that there is nothing at all."""
        __tracebackhide__ = True
        if self.samples():
            raise AssertionError(f"wanted nothing recorded, got something{self._list()}")
        return True

    def clear(self) -> None:
        """Forget what was captured so far; gauges keep the values that changes are counted from."""
        self._gather()
        self._samples.clear()
        self._dropped_before = self._dropped()

    def _end(self) -> None:
        self._gather()
        self._dropped_in_all = self._dropped()

    def _dropped(self) -> Tally[str]:
        if self._dropped_in_all is not None:
            return self._dropped_in_all
        return sum((memory.flusher.recorder.dropped() for memory in self._memories), Tally[str]())

    def _gather(self) -> None:
        for number_, memory in enumerate(self._memories):
            if memory.flusher.outbox is memory:
                memory.flusher.collect(int(memory.flusher.clock() * 1000))
            with memory.change:
                taken, memory.parcels = memory.parcels, []
            for parcel in taken:
                self._take(number_, parcel)

    def _take(self, memory: int, parcel: Parcel) -> None:
        """The samples of a parcel, one by one, as a reader makes them of a block; a change gets the value it leads to."""
        samples = parcel.samples
        for row in range(len(samples)):
            canonical = parcel.canonicals[int(samples.series[row])]
            value = float(samples.value[row])
            if parcel.kind == "gauge":
                key = (memory, parcel.name, canonical)
                value += self._values.get(key, 0.0) if samples.flags[row] & CHANGE else 0.0
                self._values[key] = value
            self._samples.append(
                Sample(
                    parcel.name, parcel.kind, value, int(samples.weight[row]), unpack_tags(canonical),
                    to_datetime(int(samples.time[row])), read_metadata(samples.metadata.get(row)),
                )
            )  # fmt: skip

    def _list(self) -> str:
        """All that was captured, for a message."""
        found: dict[tuple[str, MetricType, str], list[Sample]] = {}
        for sample in self.samples():
            found.setdefault((sample.name, sample.type, _braces(sample.tags)), []).append(sample)
        lines = [f"  {kind} {name}{tags}: {_told(kind, of_it)}" for (name, kind, tags), of_it in sorted(found.items())]
        if len(lines) > _SHOWN:
            lines[_SHOWN:] = [f"  and {len(lines) - _SHOWN} more series"]
        lines += [f"  dropped as {reason}: {count}" for reason, count in sorted(self.dropped.items())]
        return "\nrecorded:\n" + "\n".join(lines) if lines else "\nnothing was recorded"

    def __repr__(self) -> str:
        return f"<Captured>{self._list()}"


def _wanted(tags: Tags | None, more: Mapping[str, Any]) -> dict[str, str | None]:
    given = {**(tags or {}), **more}
    missing = dict.fromkeys(key for key, value in given.items() if value is None)
    return {**clean_tags(given), **missing}


def _equal(value: float, wanted: Any) -> bool:
    """Equal up to rounding; *wanted* may be what pytest.approx gives."""
    return bool(value == wanted) or (isinstance(wanted, int | float) and isclose(value, wanted, rel_tol=1e-9))


def _same(values: list[float], wanted: tuple[Any, ...]) -> bool:
    """The same numbers, in any order?"""
    left = list(values)
    for one in wanted:
        at = next((at for at, value in enumerate(left) if _equal(value, one)), None)
        if at is None:
            return False
        del left[at]
    return not left


def _braces(tags: Mapping[str, str | None]) -> str:
    return "{" + ", ".join(f"{key}={value!r}" for key, value in sorted(tags.items())) + "}" if tags else ""


def _told(kind: MetricType, samples: list[Sample]) -> str:
    if not samples:
        return ""
    if kind == "counter":
        total, count = fsum(sample.value * sample.count for sample in samples), sum(sample.count for sample in samples)
        return f"{total:g}" + (f" in {count} increments" if count > 1 else "")
    values = [f"{value:g}" for sample in samples for value in [sample.value] * min(sample.count, 11)]
    shown = ", ".join(values[-10:]) if kind == "gauge" else ", ".join(values[:10])
    return shown + (f" ({sum(sample.count for sample in samples)} values)" if len(values) > 10 else "")


# -- the capture --------------------------------------------------------------------------------------------------


class _Memory(Outbox):
    """The sending end of one flusher during a capture: what would be sent is kept, and so stored."""

    sends = False

    def __init__(self, flusher: Flusher) -> None:
        super().__init__(flusher.settings, flusher.recorder, flusher.clock)
        self.flusher = flusher  # kept, so that a client that is let go of keeps what it recorded
        self.parcels: list[Parcel] = []

    def put(self, found: list[Parcel]) -> int:
        """Keep what the store would take, by its age, too."""
        now_ms = self.flusher.clock() * 1000
        oldest, newest = now_ms - self._settings.max_age * 1000, now_ms + self._settings.max_future * 1000
        with self.change:
            for parcel in found:
                kept, too_old, in_future = parcels.within(parcel, int(oldest), int(newest))
                if kept is not None:
                    self.parcels.append(kept)
                count = 0 if kept is None else kept.samples.count
                self.drained += count + too_old + in_future
                self.confirm(count)
                self.drop("too_old", too_old)
                self.drop("in_future", in_future)
            return self.drained


@contextmanager
def capture(*, clock: ReadClock | None = None) -> Iterator[Captured]:
    """Keep in memory what this process records meanwhile, by whatever client; nothing is sent, no thread runs.

    The default client, handles that are bound already, clients that are made meanwhile, and those of ``none://`` are all
    captured. *clock* is the time of every client that has none of its own. Asking raises `StoreUnavailable`. Afterwards all is
    as it was, but metrics that were declared meanwhile stay so.
    """
    captured = Captured()
    with _in_memory(captured, clock), _without_a_store(), _default_restored(), _silent_ones_speak():
        try:
            yield captured
        finally:
            captured._end()


@contextmanager
def _in_memory(captured: Captured, clock: ReadClock | None) -> Iterator[None]:
    def make(of: Flusher) -> _Memory:
        if clock is not None and of.clock is system_clock:
            of.clock = of.recorder.clock = clock
        captured._memories.append(_Memory(of))
        return captured._memories[-1]

    before = list(flusher._flushers)
    saved = [_set_aside(each) for each in before]
    made_before, flusher.make_outbox = flusher.make_outbox, make
    try:
        for each in before:
            each._reset()
        yield
    finally:
        flusher.make_outbox = made_before
        for each, (sending, recording) in zip(before, saved, strict=True):
            _put_back(each, sending, recording)
        for each in [each for each in flusher._flushers if each not in before]:
            _begin_anew(each, clock)


def _set_aside(of: Flusher) -> tuple[dict[str, Any], dict[str, Any]]:
    """Stop the threads of a flusher, and take all that it and its recorder hold."""
    of._stop.set()
    of._wake.set()
    of._hurry.set()
    for thread in of._threads:
        thread.join(of.settings.socket_timeout + 1)
    if not of.recorder.closed:
        of.collect(int(of.clock() * 1000))
    saved = dict(of.__dict__), dict(of.recorder.__dict__)
    of.worker = None
    of.recorder.reset()
    return saved


def _put_back(of: Flusher, sending: dict[str, Any], recording: dict[str, Any]) -> None:
    recorder = of.recorder
    recorder._unbind_all()
    declared = {name: metric for name, metric in recorder.metrics.items() if metric.declared}
    of.__dict__.update(sending)
    recorder.__dict__.update(recording)
    for name, metric in declared.items():
        if name not in recorder.metrics:
            recorder.declare(name, metric.definition)
    if not recorder.closed:
        of._stop, of._wake, of._hurry, of._threads = threading.Event(), threading.Event(), threading.Event(), []
        recorder.start_again()
        if of.unsent():
            recorder.started = True
            of.start()
            of._wake.set()


def _begin_anew(of: Flusher, clock: ReadClock | None) -> None:
    """A client that was made during the capture is from now on as good as any."""
    if of.clock is clock:
        of.clock = of.recorder.clock = system_clock
    of._reset()
    of.recorder.reset()
    of.recorder.metrics = {name: metric for name, metric in of.recorder.metrics.items() if metric.declared}


@contextmanager
def _default_restored() -> Iterator[None]:
    before, arguments = default._client, default._arguments
    state = None if before is None else dict(before.__dict__)
    try:
        yield
    finally:
        default._arguments = arguments
        if before is not None and state is not None:
            before.__dict__.clear()
            before.__dict__.update(state)
        elif default._client is not None:  # decorated functions know it, so it stays, as it would be made now
            default._client._recorder._unbind_all()
            default._client._become(Metrics(*arguments[0], **arguments[1]))


@contextmanager
def _silent_ones_speak() -> Iterator[None]:
    """Let the clients of ``none://`` record, those that are made meanwhile too."""
    saved: list[tuple[Client, dict[str, Any]]] = []
    louds: dict[Recorder, Client] = {}  # by the silent recorder whose place they take: those that share it share them
    silence: dict[Recorder, dict[str, Any]] = {}  # what stood in the place of a loud one
    first = Client.__init__

    def speak(one: Client) -> None:
        if not isinstance(one._recorder, NullRecorder):
            return  # a capture around this one let it
        before = dict(one.__dict__)
        saved.append((one, before))
        loud = louds.get(one._recorder)
        if loud is None:
            settings = {setting.name: getattr(one.settings, setting.name) for setting in fields(Settings)}
            loud = louds[one._recorder] = object.__new__(Metrics)
            first(loud, **{**settings, "url": "redis://captured.invalid"}, clock=one._recorder.clock)
            silence[loud._recorder] = before
        one._recorder._unbind_all()
        del one.increment, one.gauge, one.histogram, one.record  # those of none:// that stand before the class's
        one._become(loud)
        one._own = before["_own"]

    def init(one: Client, *args: Any, **options: Any) -> None:
        first(one, *args, **options)
        before = silence.get(one._recorder)
        if before is not None:  # it shares one that speaks now
            saved.append((one, {**before, "_own": False}))
            client.silent.add(one)
        speak(one)

    for one in list(client.silent):
        speak(one)
    Client.__init__ = init  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Client.__init__ = first  # type: ignore[method-assign]
        for one, state in saved:
            one._recorder._unbind_all()
            one.__dict__.clear()
            one.__dict__.update(state)


@contextmanager
def _without_a_store() -> Iterator[None]:
    def away(_: object, **__: Any) -> NoReturn:
        raise StoreUnavailable("a capture keeps what is recorded in memory: there is no store to ask")

    async def aaway(_: object, **__: Any) -> NoReturn:
        away(_)

    before = Store.client, Store.connect, Store.reachable_url, Store.aconnect, LoopClients.client
    Store.client = Store.connect = Store.reachable_url = away  # type: ignore[method-assign, assignment]
    Store.aconnect = LoopClients.client = aaway  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Store.client, Store.connect, Store.reachable_url, Store.aconnect, LoopClients.client = before  # type: ignore[method-assign]
