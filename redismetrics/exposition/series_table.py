"""The current values of many series as columns, and their grouping by tag keys."""

import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from operator import itemgetter, le
from typing import Any, overload

import msgpack

from redismetrics.errors import shown
from redismetrics.model.exemplar import StoredExemplar

from .families import SeriesState

# Maximum number of series to unpack or render at a time.
MAX_GROUP = 1000

# Separator of keys and values in the text of a series' tags, and the escape character.
_SEPARATOR, _ESCAPE = "\0", "\1"
_EMPTY = msgpack.packb("")
_TUPLE = {tuple}
_every_second = itemgetter(slice(None, None, 2))


@dataclass(slots=True, eq=False, repr=False)
class SeriesTable(Sequence[SeriesState]):
    """The current values of many series; a sequence of `SeriesState`, each created when it is read.

    The columns are the fields of `SeriesState`, with equal lengths; *counts* and *buckets* are
    empty except for histograms. *texts* are the tags, joined and escaped so that they sort as lists
    of pairs. *tag_keys* are the distinct lists of keys; *has_empty* is true if any tag value is
    empty. *skipped* is the number of changes and fields from a newer version that are missing in
    the values. *exemplars* are by text of the series and number of the bucket.
    """

    texts: list[str]
    seen_ms: list[int]
    values: list[float]
    counts: list[int] = field(default_factory=list)
    buckets: list[tuple[int, ...]] = field(default_factory=list)
    tag_keys: set[tuple[str, ...]] = field(default_factory=set)
    has_empty: bool = False
    skipped: int = 0
    exemplars: dict[str, dict[int, StoredExemplar]] = field(default_factory=dict)

    @classmethod
    def of(cls, series: Iterable[SeriesState]) -> "SeriesTable":
        if isinstance(series, SeriesTable):
            return series
        rows = list(series)
        flat_tags = [tuple(chain.from_iterable(sorted(row.tags.items()))) for row in rows]
        texts = [_SEPARATOR.join(map(_escape, flat)) for flat in flat_tags]
        return cls(
            texts,
            [row.seen_ms for row in rows],
            [float(row.value) for row in rows],
            [row.count for row in rows],
            [row.buckets for row in rows],
            {flat[::2] for flat in flat_tags},
            any("" in flat for flat in flat_tags),
            exemplars={
                text: dict(row.exemplars)
                for text, row in zip(texts, rows, strict=True)
                if row.exemplars
            },
        )

    def __len__(self) -> int:
        return len(self.texts)

    @overload
    def __getitem__(self, at: int) -> SeriesState: ...
    @overload
    def __getitem__(self, at: slice) -> "SeriesTable": ...
    def __getitem__(self, at: int | slice) -> "SeriesState | SeriesTable":
        if isinstance(at, slice):
            return self._select(lambda column: column[at])
        parts = _split(self.texts[at])
        # Without tags the text is "", which splits into one part.
        tags = dict(zip(parts[::2], parts[1::2], strict=False))
        exemplars = self.exemplars.get(self.texts[at], {})
        if not self.counts:
            return SeriesState(tags, self.seen_ms[at], self.values[at], exemplars=exemplars)
        return SeriesState(
            tags, self.seen_ms[at], self.values[at], self.counts[at], self.buckets[at], exemplars
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    # The columns can be changed, as a list can.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))

    def take(self, numbers: Collection[int]) -> "SeriesTable":
        """Return the rows of these *numbers*, in this order."""
        return self._select(lambda column: list(map(column.__getitem__, numbers)) if column else [])

    def rows_of(self, group: "SeriesGroup") -> "SeriesTable":
        """Return the rows of a group."""
        rows = group.rows
        # Most tables have one group.
        return self if len(rows) == len(self) else self[rows.start : rows.stop]

    def _select(self, rows: Callable[[list[Any]], list[Any]]) -> "SeriesTable":
        return SeriesTable(
            rows(self.texts),
            rows(self.seen_ms),
            rows(self.values),
            rows(self.counts),
            rows(self.buckets),
            self.tag_keys,
            self.has_empty,
            self.skipped,
            self.exemplars,
        )

    def seen_since(self, seen_ms: int) -> "SeriesTable":
        """Return the series whose last batch arrived at *seen_ms* or later."""
        if not self.seen_ms or min(self.seen_ms) >= seen_ms:
            return self
        return self.take([at for at, seen in enumerate(self.seen_ms) if seen >= seen_ms])

    def in_order(self) -> "SeriesTable":
        """Return the series sorted by tags."""
        # A fast path for one series or a few.
        if all(map(le, self.texts, islice(self.texts, 1, None))):
            return self
        return self.take(sorted(range(len(self)), key=self.texts.__getitem__))

    def groups(self, start: int = 0, stop: int | None = None) -> Iterator["SeriesGroup"]:
        """Yield all rows in order, in groups of neighbours with the same tag keys.

        A group has at most MAX_GROUP rows. Rows with different keys are found by bisection.
        """
        if stop is None:
            for start in range(0, len(self), MAX_GROUP):
                yield from self.groups(start, min(start + MAX_GROUP, len(self)))
            return
        count = stop - start
        parts = split_texts(self.texts[start:stop])
        width = len(parts) // count
        if width == 1 and not any(parts):
            yield SeriesGroup(range(start, stop), (), [])
        elif width * count == len(parts) and all(
            parts[at::width].count(parts[at]) == count for at in range(0, width, 2)
        ):
            yield SeriesGroup(
                range(start, stop),
                tuple(parts[:width:2]),
                [parts[at::width] for at in range(1, width, 2)],
            )
        else:
            middle = start + count // 2
            yield from self.groups(start, middle)
            yield from self.groups(middle, stop)


@dataclass(frozen=True, slots=True)
class SeriesGroup:
    """Rows with the same tag keys: their numbers, the keys, and the values by row for each key."""

    rows: range
    tag_keys: tuple[str, ...]
    values: list[list[str]]


def _escape(part: str) -> str:
    r"""Return *part* without \0. Escaped parts sort as the parts themselves."""
    return part.replace("\1", "\1\2").replace("\0", "\1\1")


def split_texts(texts: Iterable[str]) -> list[str]:
    """Return the keys and values of all *texts*, concatenated; an empty text counts as one."""
    return _split(_SEPARATOR.join(texts))


def concat(tables: Sequence[SeriesTable]) -> SeriesTable:
    """Concatenate *tables* of metrics of one type, without data about the whole tables."""
    if len(tables) == 1:
        return tables[0]
    has_counts = all(table.counts for table in tables)
    return SeriesTable(
        list(chain.from_iterable([table.texts for table in tables])),
        list(chain.from_iterable([table.seen_ms for table in tables])),
        list(chain.from_iterable([table.values for table in tables])),
        list(chain.from_iterable([table.counts for table in tables])) if has_counts else [],
        list(chain.from_iterable([table.buckets for table in tables])) if has_counts else [],
    )


def _split(text: str) -> list[str]:
    parts = text.split(_SEPARATOR)
    if _ESCAPE in text:
        return [part.replace("\1\1", "\0").replace("\1\2", "\1") for part in parts]
    return parts


# Of a `SeriesTable`: *texts*, *tag_keys* and *has_empty*.
UnpackedTags = tuple[list[str], set[tuple[str, ...]], bool]


def unpack_tags(packed: list[bytes]) -> UnpackedTags:
    """Return *texts*, *tag_keys* and *has_empty* of a `SeriesTable` from packed tags."""
    texts: list[str] = []
    tag_keys: set[tuple[str, ...]] = set()
    has_empty = False
    for flats, some_empty in _flat_tags(packed):
        has_empty = has_empty or some_empty
        texts += map(_SEPARATOR.join, flats)
        tag_keys.update(map(_every_second, flats))
    return texts, tag_keys, has_empty


def unpack_tags_of_each(packed: Sequence[list[bytes]]) -> Iterator[UnpackedTags]:
    """Yield `unpack_tags` of each of these lists, which may be many short ones."""
    found: list[tuple[str, ...]] = []
    has_empty = False
    for flats, some_empty in _flat_tags(list(chain.from_iterable(packed))):
        has_empty = has_empty or some_empty
        found += flats
    end = 0
    for each in packed:
        begin, end = end, end + len(each)
        flats = found[begin:end]
        is_empty = has_empty and any("" in flat for flat in flats)
        yield list(map(_SEPARATOR.join, flats)), set(map(_every_second, flats)), is_empty


def _flat_tags(packed: list[bytes]) -> Iterator[tuple[list[tuple[str, ...]], bool]]:
    """Yield keys and values of series, escaped, in groups, and whether any of them is empty."""
    for start in range(0, len(packed), MAX_GROUP):
        group = packed[start : start + MAX_GROUP]
        data = b"".join(group)
        # Unpacking them as one array takes half the time of unpacking them one by one.
        flats = list(msgpack.unpackb(struct.pack(">BI", 0xDD, len(group)) + data, use_list=False))
        if set(map(type, flats)) != _TUPLE or any(size % 2 for size in set(map(len, flats))):
            raise ValueError(f"tags must be lists of keys and values, got {shown(flats)}")
        # The byte may be in a value, or in the length of one.
        if b"\0" in data or b"\1" in data:
            flats = [tuple(map(_escape, flat)) for flat in flats]
        yield flats, _EMPTY in data and any("" in flat for flat in flats)
