"""Per-process values, of gauges declared with ``per="process"``.

Each process writes its last value into its own field; see LIVE in store/keys.py and
lua/include/process_values.lua. The values of dead processes are merged into one field per series.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from redismetrics.model.options import MERGE_MODES

from .arrays import LARGEST

# Kind of a change that is never stored: record.lua writes the values at once. Its flags are a sum;
# 1 means that the process is ending.
VALUES, ENDS = 5, 1

# A process repeats its values if none have been sent for this long.
BEAT_SECONDS = 10.0
# A process that has been silent for longer than this counts as dead.
GONE_MS = 30_000

# Number of dead processes per series, the newest, whose values are kept separately. If one of them
# comes back, it reclaims its value.
MOST_GONE = 32
# In the mode `all`, each process has a row. For dead processes, only this many of the newest rows
# are kept per series, and none for longer than a day.
MOST_ENDED, ENDED_MS = 64, 86_400_000

# The mode of a gauge that is declared without one, as in prometheus_client.
DEFAULT_MODE = "all"

# Kind, layout, series, flags.
_HEAD = struct.Struct("<BBII")
_PROCESS = struct.Struct("<I8s")
_VALUE = struct.Struct("<dddI8s")
_GONE = struct.Struct("<ddd")
_ENTRY = struct.Struct("<16sdd")
_WRITER_BYTES = 16
# The time if there is no value of dead processes.
_NEVER = -1.0


class Process(NamedTuple):
    """A process: its id, the kernel and container in which the id is valid, and its host name."""

    pid: int
    place: bytes
    host: str


class ProcessValue(NamedTuple):
    """The last value set by one process.

    Attributes:
        writer: Id of the process in Redis.
        clock: Clock of the batch that set or repeated it, in µs.
        has_ended: Whether the process has announced its end.
    """

    writer: bytes
    value: float
    time_ms: float
    clock: int
    process: Process
    has_ended: bool = False

    def is_live(self, now_ms: float) -> bool:
        return not self.has_ended and self.clock // 1000 >= now_ms - GONE_MS


def merge_mode(merge: str | None) -> str:
    """Return how the values of a gauge's processes are merged; the default without *merge*."""
    return merge or DEFAULT_MODE


def pack_values(
    codes: Sequence[int],
    times: Sequence[float],
    values: Sequence[float],
    mode: str,
    process: Process,
    *,
    ends: bool,
) -> bytes:
    """Return the values of a process in the format of record.lua, one per series.

    *codes* are those of the gauge's change.
    """
    count = len(values)
    return b"".join(
        (
            _HEAD.pack(VALUES, 0, count, ENDS if ends else 0),
            struct.pack(f"<{count}B{2 * count}d", *codes, *times, *values),
            bytes([MERGE_MODES.index(mode)]),
            _PROCESS.pack(process.pid, process.place),
            process.host.encode(),
        )
    )


def unpack_value(name: bytes, data: bytes) -> ProcessValue:
    """Decode a field of the hash `live` with the value of one process.

    Raises:
        ValueError, OverflowError, struct.error: If it is corrupt.
    """
    value, time_ms, clock, pid, place = _VALUE.unpack_from(data)
    process = Process(pid, place, data[_VALUE.size :].decode())
    writer = name.partition(b" ")[2]
    return ProcessValue(writer, value, time_ms, int(abs(clock)), process, clock < 0)


@dataclass(slots=True)
class GoneValues:
    """The values of dead processes for one series.

    Attributes:
        clock: The newest clock of the values, in µs.
        value, time_ms: Merged value and its time; *time_ms* is below 0 if there is none.
        entries: Writer, value and time of values still kept separately, oldest first.
    """

    clock: int = 0
    value: float = 0.0
    time_ms: float = _NEVER
    entries: list[tuple[bytes, float, float]] = field(default_factory=list)

    @classmethod
    def unpack(cls, data: bytes) -> "GoneValues":
        """Decode a field of the hash `live`.

        Raises:
            ValueError, OverflowError, struct.error: If it is corrupt.
        """
        value, time_ms, clock = _GONE.unpack_from(data)
        return cls(int(clock), value, time_ms, list(_ENTRY.iter_unpack(data[_GONE.size :])))

    def pack(self) -> bytes:
        return _GONE.pack(self.value, self.time_ms, float(self.clock)) + b"".join(
            _ENTRY.pack(*entry) for entry in self.entries
        )

    def add(self, gone: ProcessValue, mode: str) -> None:
        """Add the value of a process; only its clock if the mode ignores dead processes."""
        self.clock = max(self.clock, gone.clock)
        if mode == "all" or mode.startswith("live"):
            return
        writer = gone.writer[:_WRITER_BYTES].ljust(_WRITER_BYTES, b"\0")
        self.entries = [entry for entry in self.entries if entry[0] != writer]
        self.entries.append((writer, gone.value, gone.time_ms))
        if len(self.entries) > MOST_GONE:
            _, value, time_ms = self.entries.pop(0)
            self.value, self.time_ms = merged([*self._merged_value(), (value, time_ms)], mode)

    def values(self) -> list[tuple[float, float]]:
        """Return the values with their times in ms."""
        return self._merged_value() + [(value, time_ms) for _, value, time_ms in self.entries]

    def _merged_value(self) -> list[tuple[float, float]]:
        return [(self.value, self.time_ms)] if self.time_ms >= 0 else []


def merged(values: Sequence[tuple[float, float]], mode: str) -> tuple[float, float]:
    """Merge the values of several processes, each with its time, to one value and time."""
    newest_ms = max(time_ms for _, time_ms in values)
    numbers = [value for value, _ in values]
    match mode.removeprefix("live"):
        case "sum":
            return max(-LARGEST, min(LARGEST, sum(numbers))), newest_ms
        case "min":
            return min(numbers), newest_ms
        case "max":
            return max(numbers), newest_ms
    # mostrecent: the last one among equal times.
    return next(each for each in reversed(values) if each[1] == newest_ms)


@dataclass(slots=True)
class SeriesValues:
    """All values of one series: of live and of dead processes."""

    own: list[ProcessValue] = field(default_factory=list)
    gone: GoneValues | None = None

    @property
    def seen_ms(self) -> int:
        """When a process last set or repeated a value of the series."""
        newest = 0 if self.gone is None else self.gone.clock
        return max([newest, *(each.clock for each in self.own)]) // 1000

    def one(self, mode: str, now_ms: float) -> tuple[float, int] | None:
        """Return the merged value, and when any of its values was last set or repeated, in ms.

        None if no value counts.
        """
        own = self.own
        if mode.startswith("live"):
            own = [each for each in own if each.is_live(now_ms)]
        values = [(each.value, each.time_ms) for each in sorted(own, key=_clock)]
        seen_ms = max((each.clock for each in own), default=0) // 1000
        if self.gone is not None and not mode.startswith("live"):
            values, seen_ms = [*self.gone.values(), *values], self.seen_ms
        return (merged(values, mode)[0], seen_ms) if values else None

    def each(self, mode: str, now_ms: float) -> list[ProcessValue]:
        """Return the values that have a separate row, in the modes `all` and `liveall`.

        A dead process has none if another one on its host has the same id: the id was reused, or
        the process has another client.
        """
        rows: dict[Process, ProcessValue] = {}
        for each in sorted(self.own, key=_clock):
            if each.is_live(now_ms):
                rows[each.process] = each
        if mode.startswith("live"):
            return list(rows.values())
        used = {(process.pid, process.host) for process in rows}
        ended = []
        for each in newest_ended(self.own, now_ms):
            known_as = each.process.pid, each.process.host
            if known_as not in used:
                used.add(known_as)
                ended.append(each)
        return [*rows.values(), *ended]


def _clock(value: ProcessValue) -> int:
    return value.clock


def newest_ended(values: Iterable[ProcessValue], now_ms: float) -> list[ProcessValue]:
    """Return the values of dead processes that still have a row, newest first."""
    oldest_ms = now_ms - ENDED_MS
    ended = [
        each for each in values if not each.is_live(now_ms) and each.clock // 1000 >= oldest_ms
    ]
    return sorted(ended, key=_clock, reverse=True)[:MOST_ENDED]


def read_values(
    names: Mapping[int, Iterable[bytes]], live: Mapping[bytes, bytes]
) -> dict[int, SeriesValues]:
    """Decode the fields *names* of the hash `live`, by series id.

    Raises:
        ValueError, OverflowError, struct.error: If a field is corrupt.
    """
    found = {}
    for series, fields in names.items():
        values = found[series] = SeriesValues()
        for name in fields:
            if is_of_gone(name):
                values.gone = GoneValues.unpack(live[name])
            else:
                values.own.append(unpack_value(name, live[name]))
    return found


def gone_field(series: int) -> bytes:
    """Return the field of the hash `live` with a series' values of dead processes."""
    return b"%d " % series


def is_of_gone(name: bytes) -> bool:
    """Return whether a field holds the values of dead processes."""
    return name.endswith(b" ")


def pid_tags(processes: Iterable[Process]) -> dict[Process, str]:
    """Return a unique text for each process: its id, if that is enough.

    Otherwise the host name is appended, and a suffix that distinguishes containers with the same
    host name: ``7@web``, ``7@web-3f9a2c1b``.
    """
    by_pid: dict[int, list[Process]] = {}
    for process in set(processes):
        by_pid.setdefault(process.pid, []).append(process)
    tags = {}
    for pid, same in by_pid.items():
        hosts = [process.host for process in same]
        for process in same:
            tags[process] = str(pid)
            if len(same) > 1:
                tags[process] += f"@{process.host}"
            if hosts.count(process.host) > 1:
                tags[process] += f"-{process.place.hex()[:8]}"
    return tags
