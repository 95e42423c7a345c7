"""Metrics with the running state of their series, as columns."""

import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, compress
from operator import add, itemgetter
from typing import Any, overload

import msgpack

from redismetrics.model.definition import Definition
from redismetrics.store import keys


@dataclass(frozen=True, slots=True)
class SeriesState:
    """One series as it stands now, since it began: what the Prometheus page shows.

    *value* is a counter's total, a gauge's value or a histogram's sum; *count* and *buckets* (one count for each bound
    of the definition, not cumulative, +Inf left out) are a histogram's. *seen_ms* is the server's time of its last batch.
    """

    tags: dict[str, str]
    seen_ms: int
    value: float
    count: int = 0
    buckets: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with all its series as they stand now."""

    name: str
    definition: Definition
    series: Sequence[SeriesState]


BLOCK = 1000  # series that are taken apart at once

_BETWEEN, _ESCAPE = "\0", "\1"
_EMPTY = msgpack.packb("")
_TUPLE = {tuple}
_KEYS = itemgetter(slice(None, None, 2))


@dataclass(slots=True, eq=False, repr=False)
class SeriesStates(Sequence[SeriesState]):
    """Series as they stand now; reads as a list of `Live`, each made when it is asked for.

    The columns are those of `Live`, equally long; *counts* and *buckets* are empty but for histograms. *tag_keys* are the lists
    of keys that occur; *has_empty* tells whether a value is empty.
    """

    texts: list[str]
    seen_ms: list[int]
    values: list[float]
    counts: list[int] = field(default_factory=list)
    buckets: list[tuple[int, ...]] = field(default_factory=list)
    tag_keys: set[tuple[str, ...]] = field(default_factory=set)
    has_empty: bool = False

    @classmethod
    def of(cls, series: Iterable[SeriesState]) -> "SeriesStates":
        if isinstance(series, SeriesStates):
            return series
        rows = list(series)
        flats = [tuple(chain.from_iterable(sorted(live.tags.items()))) for live in rows]
        return cls(
            [_BETWEEN.join(map(_escaped, flat)) for flat in flats],
            [live.seen_ms for live in rows],
            [float(live.value) for live in rows],
            [live.count for live in rows],
            [live.buckets for live in rows],
            {flat[::2] for flat in flats},
            any("" in flat for flat in flats),
        )

    @classmethod
    def unpack(
        cls, definition: Definition, tags_by_id: Mapping[int, bytes], states: Mapping[bytes, bytes]
    ) -> "SeriesStates":
        """The hash `live` as it is in the store (LIVE in keys.py), in order of the ids; *tags_by_id* are canonical bytes.

        Raises what reading such bytes raises where they are none.
        """
        width, rows = keys.totals_shape(definition.type, len(definition.buckets))
        fields = sorted((int(number), state) for number, state in states.items())
        for _, state in fields:
            if len(state) != 8 * width * rows:
                raise ValueError(
                    f"wanted {8 * width * rows} bytes for a {definition.type}, got {len(state)}"
                )
        numbers = struct.unpack(
            f"<{width * rows * len(fields)}d", b"".join([state for _, state in fields])
        )
        ids = chain.from_iterable(
            range(number * rows, number * rows + rows) for number, _ in fields
        )
        tags = list(map(tags_by_id.get, ids))
        kept = [of and seen for of, seen in zip(tags, numbers[::width], strict=True)]

        def column(at: int) -> Iterator[float]:
            return compress(numbers[at::width], kept)

        texts, tag_keys, has_empty = _read([of for of in compress(tags, kept) if of])
        seen_ms = list(map(int, column(0)))
        if definition.type == "gauge":
            return cls(texts, seen_ms, list(column(1)), [], [], tag_keys, has_empty)
        if definition.type == "counter":
            return cls(
                texts, seen_ms, list(map(add, column(1), column(2))), [], [], tag_keys, has_empty
            )
        buckets = [
            tuple(map(int, numbers[at + 4 : at + width]))
            for at in compress(range(0, len(numbers), width), kept)
        ]
        total = list(map(add, column(2), column(3)))
        return cls(texts, seen_ms, total, list(map(int, column(1))), buckets, tag_keys, has_empty)

    def __len__(self) -> int:
        return len(self.texts)

    @overload
    def __getitem__(self, at: int) -> SeriesState: ...
    @overload
    def __getitem__(self, at: slice) -> "SeriesStates": ...
    def __getitem__(self, at: int | slice) -> "SeriesState | SeriesStates":
        if isinstance(at, slice):
            return self._with(lambda column: column[at])
        parts = _parts(self.texts[at])
        tags = dict(zip(parts[::2], parts[1::2], strict=False))  # "" is one part: no tags
        if not self.counts:
            return SeriesState(tags, self.seen_ms[at], self.values[at])
        return SeriesState(
            tags, self.seen_ms[at], self.values[at], self.counts[at], self.buckets[at]
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it can be changed as a list can

    def __repr__(self) -> str:
        return repr(list(self))

    def take(self, numbers: Collection[int]) -> "SeriesStates":
        """These rows, in this order."""
        return self._with(lambda column: list(map(column.__getitem__, numbers)) if column else [])

    def _with(self, rows: Callable[[list[Any]], list[Any]]) -> "SeriesStates":
        return replace(
            self, texts=rows(self.texts), seen_ms=rows(self.seen_ms), values=rows(self.values),
            counts=rows(self.counts), buckets=rows(self.buckets),
        )  # fmt: skip

    def seen_since(self, seen_ms: int) -> "SeriesStates":
        if not self or min(self.seen_ms) >= seen_ms:
            return self
        return self.take([at for at, seen in enumerate(self.seen_ms) if seen >= seen_ms])

    def in_order(self) -> "SeriesStates":
        """Sorted by tags."""
        return self.take(sorted(range(len(self)), key=self.texts.__getitem__))

    def runs(self, start: int = 0, stop: int | None = None) -> Iterator["StateBlock"]:
        """All rows in their order, those beside each other that have the same keys in one, at most BLOCK of them."""
        if stop is None:
            for start in range(0, len(self), BLOCK):
                yield from self.runs(start, min(start + BLOCK, len(self)))
            return
        many = stop - start
        parts = _parts(_BETWEEN.join(self.texts[start:stop]))
        width = len(parts) // many
        if width == 1 and not any(parts):
            yield StateBlock(range(start, stop), (), [])
        elif width * many == len(parts) and all(
            parts[at::width].count(parts[at]) == many for at in range(0, width, 2)
        ):
            yield StateBlock(
                range(start, stop),
                tuple(parts[:width:2]),
                [parts[at::width] for at in range(1, width, 2)],
            )
        else:
            middle = start + many // 2
            yield from self.runs(start, middle)
            yield from self.runs(middle, stop)


@dataclass(frozen=True, slots=True)
class StateBlock:
    """Rows with the same keys: their numbers, the keys, and of each key the values of all rows."""

    rows: range
    tag_keys: tuple[str, ...]
    values: list[list[str]]


def _escaped(part: str) -> str:
    r"""*part* without \0, in the same order among others."""
    return part.replace("\1", "\1\2").replace("\0", "\1\1")


def _parts(text: str) -> list[str]:
    parts = text.split(_BETWEEN)
    if _ESCAPE in text:
        return [part.replace("\1\1", "\0").replace("\1\2", "\1") for part in parts]
    return parts


def _read(canonical: list[bytes]) -> tuple[list[str], set[tuple[str, ...]], bool]:
    """The texts of canonical tags, the lists of keys that occur, and whether a value is empty."""
    texts: list[str] = []
    found: set[tuple[str, ...]] = set()
    has_empty = False
    for start in range(0, len(canonical), BLOCK):
        block = canonical[start : start + BLOCK]
        data = b"".join(block)
        # One array of all of them is read in half the time that they take one by one.
        flats = msgpack.unpackb(struct.pack(">BI", 0xDD, len(block)) + data, use_list=False)
        if set(map(type, flats)) != _TUPLE or any(size % 2 for size in set(map(len, flats))):
            raise ValueError(f"wanted lists of keys and values, got {flats!r:.60}")
        if b"\0" in data or b"\1" in data:  # in a value, or in the length of one
            flats = [tuple(map(_escaped, flat)) for flat in flats]
        has_empty = has_empty or (_EMPTY in data and any("" in flat for flat in flats))
        texts += map(_BETWEEN.join, flats)
        found.update(map(_KEYS, flats))
    return texts, found, has_empty
