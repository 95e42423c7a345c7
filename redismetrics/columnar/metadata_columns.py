"""Metadata of samples as columns: texts that differ only in numbers share a template.

The texts ``{"step":1}`` and ``{"step":2}`` have the template ``{"step":``, number, ``}``. For each
sample, only the number is stored, in a column. Texts are rebuilt byte for byte. Texts with other
differences have separate templates, and equal ones are stored once.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import msgpack
import numpy as np

from redismetrics.errors import FormatMismatch
from redismetrics.model.sample import read_metadata

from .arrays import Floats, Ints
from .column_codec import Reader, pack_real, pack_whole
from .packing import unpack_msgpack

# Maximum number of numbers in a text that become columns, and of bytes around them. A text with
# more has its own template, so that few bytes cannot represent many long texts.
MAX_NUMBERS = 16
MAX_FIXED_BYTES = 256
# Whole numbers beyond this remain text.
_MOST = 1 << 53

_NUMBER = re.compile(rb"(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)")
_WHOLE, _REAL = ord("i"), ord("f")
# Numbers substituted into a template, starting from each of these two: a part that differs between
# two texts by as much as these is one of the template's numbers.
_PROBES = (10**9, 2 * 10**9)

# The fixed parts of a text, and the kinds of the numbers between them: "i" or "f".
Template = tuple[tuple[bytes, ...], bytes]


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """Texts with the same template.

    Attributes:
        columns: The numbers at each position, each of shape (texts,).
    """

    template: Template
    columns: tuple[Any, ...]

    def texts(self, at: Ints) -> list[bytes]:
        """Return the texts at these positions."""
        parts, kinds = self.template
        if not kinds:
            return [parts[0]] * len(at)
        columns = [
            column[at].tolist() if kind == _WHOLE else [_real_text(each) for each in column[at]]
            for kind, column in zip(kinds, self.columns, strict=True)
        ]
        form = parts[0].replace(b"%", b"%%")
        for kind, part in zip(kinds, parts[1:], strict=True):
            form += (b"%d" if kind == _WHOLE else b"%b") + part.replace(b"%", b"%%")
        return [form % numbers for numbers in zip(*columns, strict=True)]

    def numbers(self, key: str, at: Ints) -> Floats:
        """Return the number under *key* in the texts at these positions, or NaN."""
        first, second = (read_metadata(self._filled(probe)) for probe in _PROBES)
        value, other = _number_of(first, key), _number_of(second, key)
        is_of_all = value == other or np.isnan(value)
        place = 0 if is_of_all else int(value) - _PROBES[0]
        is_number = other - value == _PROBES[1] - _PROBES[0] and 0 <= place < len(self.columns)
        # A number of the template may be part of the key, or in damaged data part of a number.
        if (key not in first and re.search(r"\d", key)) or not (is_of_all or is_number):
            return np.array([_number_of(read_metadata(text), key) for text in self.texts(at)])
        if is_of_all:
            return np.full(len(at), value)
        column: Floats = self.columns[place][at].astype(np.float64)
        return np.where(np.isfinite(column), column, np.nan)

    def _filled(self, first: int) -> bytes:
        """Return the template with *first*, *first* + 1 and so on as its numbers."""
        parts, kinds = self.template
        filled = (b"%d%b" % (first + at, part) for at, part in enumerate(parts[1:]))
        return b"".join([parts[0], *filled]) if kinds else parts[0]


class MetadataColumns(Mapping[int, bytes]):
    """JSON text by row, in columns. Immutable.

    Attributes:
        rows: The rows that have metadata, ascending, shape (n,).
    """

    __slots__ = ("_at", "_group", "_groups", "rows")

    def __init__(self, rows: Ints, groups: Sequence[_Group], group: Ints, at: Ints) -> None:
        # *group* and *at* say where the text of each row is, shape (n,).
        self.rows, self._groups, self._group, self._at = rows, groups, group, at

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows.tolist())

    def __getitem__(self, row: int) -> bytes:
        place = int(np.searchsorted(self.rows, row))
        if place == len(self.rows) or self.rows[place] != row:
            raise KeyError(row)
        group = self._groups[int(self._group[place])]
        return group.texts(self._at[place : place + 1])[0]

    @property
    def nbytes(self) -> int:
        """Approximate memory, in bytes."""
        numbers = sum(column.nbytes for group in self._groups for column in group.columns)
        fixed = sum(sum(map(len, group.template[0])) + 200 for group in self._groups)
        return 24 * len(self.rows) + int(numbers) + fixed

    def moved(self, new_rows: Ints) -> "MetadataColumns":
        """Return the metadata with renumbered rows: *new_rows* by old row, below 0 to drop it."""
        rows = new_rows[self.rows]
        kept = np.flatnonzero(rows >= 0)
        kept = kept[np.argsort(rows[kept], kind="stable")]
        return MetadataColumns(rows[kept], self._groups, self._group[kept], self._at[kept])

    def texts(self, rows: Ints) -> list[bytes | None]:
        """Return the text of each of these rows; None for rows without."""
        place = np.searchsorted(self.rows, rows)
        place = np.minimum(place, max(len(self.rows) - 1, 0))
        found: list[bytes | None] = [None] * len(rows)
        if not len(self.rows):
            return found
        where = np.flatnonzero(self.rows[place] == rows)
        if not len(where):
            return found
        for number, chosen in _by_group(self._group[place[where]]):
            targets = where[chosen]
            texts = self._groups[number].texts(self._at[place[targets]])
            for target, text in zip(targets.tolist(), texts, strict=True):
                found[target] = text
        return found

    def numbers(self, key: str) -> Floats:
        """Return the number under *key* in each text; NaN if there is none."""
        found = np.full(len(self.rows), np.nan)
        for number, chosen in _by_group(self._group):
            found[chosen] = self._groups[number].numbers(key, self._at[chosen])
        return found

    def pack(self, rows: int, *, dense: bool) -> bytes:
        """Return the metadata of *rows* samples as bytes."""
        used = _merged(self)
        header: list[Any] = [len(used.rows), len(used._groups)]
        parts = []
        if len(used.rows) < rows:
            parts.append(pack_whole(used.rows, dense=dense))
        if len(used._groups) > 1:
            parts.append(pack_whole(used._group, dense=dense))
        header.append([[*group.template[0], group.template[1]] for group in used._groups])
        for group in used._groups:
            for kind, column in zip(group.template[1], group.columns, strict=True):
                pack: Any = pack_whole if kind == _WHOLE else pack_real
                parts.append(pack(column, dense=dense))
        packed: bytes = msgpack.packb(header)
        return packed + b"".join(parts)


def columns_of(metadata: Mapping[int, bytes]) -> MetadataColumns:
    """Convert the texts in *metadata* to columns."""
    if isinstance(metadata, MetadataColumns):
        return metadata
    numbers: dict[Template, int] = {}
    values: list[list[list[int | float]]] = []
    group, at = [], []
    for row in sorted(metadata):
        template, found = _split(metadata[row])
        number = numbers.setdefault(template, len(numbers))
        if number == len(values):
            values.append([])
        group.append(number)
        at.append(len(values[number]))
        values[number].append(found)
    groups = [
        _Group(
            template,
            tuple(
                np.array(column, np.int64 if kind == _WHOLE else np.float64)
                for kind, column in zip(template[1], zip(*of_group, strict=True), strict=True)
            )
            if template[1]
            else (),
        )
        for template, of_group in zip(numbers, values, strict=True)
    ]
    return MetadataColumns(
        np.array(sorted(metadata), np.int64), groups, np.array(group, np.int64), np.array(at)
    )


def joined(parts: Sequence[tuple[int, Mapping[int, bytes]]]) -> Mapping[int, bytes]:
    """Return the metadata of consecutive parts, each given with its first row."""
    parts = [(first, metadata) for first, metadata in parts if metadata]
    if not any(isinstance(metadata, MetadataColumns) for _, metadata in parts):
        return {first + row: text for first, metadata in parts for row, text in metadata.items()}
    columns = [(first, columns_of(metadata)) for first, metadata in parts]
    groups: list[_Group] = []
    group = []
    for _, each in columns:
        group.append(each._group + len(groups))
        groups += each._groups
    return MetadataColumns(
        np.concatenate([each.rows + first for first, each in columns]),
        groups,
        np.concatenate(group),
        np.concatenate([each._at for _, each in columns]),
    )


def moved(metadata: Mapping[int, bytes], new_rows: Ints) -> Mapping[int, bytes]:
    """Return metadata with renumbered rows: *new_rows* by old row, below 0 to leave it out."""
    if not metadata:
        return {}
    if isinstance(metadata, MetadataColumns):
        return metadata.moved(new_rows)
    placed = ((int(new_rows[row]), text) for row, text in metadata.items())
    return {row: text for row, text in placed if row >= 0}


def texts(metadata: Mapping[int, bytes], rows: Ints) -> list[bytes | None]:
    """Return the text of each of these rows; None for rows without."""
    if isinstance(metadata, MetadataColumns):
        return metadata.texts(rows)
    return list(map(metadata.get, rows.tolist()))


def numbers(metadata: Mapping[int, bytes], rows: int, key: str) -> Floats:
    """Return the number under *key* in the metadata of each of *rows* rows, or NaN."""
    found = np.full(rows, np.nan)
    if metadata:
        columns = columns_of(metadata)
        found[columns.rows] = columns.numbers(key)
    return found


def nbytes(metadata: Mapping[int, bytes]) -> int:
    """Return the approximate memory of metadata, in bytes."""
    if isinstance(metadata, MetadataColumns):
        return metadata.nbytes
    return sum(map(len, metadata.values())) + 100 * len(metadata)


def unpack(reader: Reader, size: int, rows: int) -> Mapping[int, bytes]:
    """Read the metadata of *rows* samples, *size* bytes.

    Raises:
        FormatMismatch: If it is corrupt.
    """
    inner = Reader(reader.bytes(size), 0, reader.what)
    (count, groups, templates), inner.at = unpack_msgpack(inner.data)
    if not 0 < groups <= count <= rows or len(templates) != groups:
        raise FormatMismatch(
            f"corrupt {reader.what}: metadata of {count} of {rows} rows has {groups} templates"
        )
    of_rows = inner.whole(count) if count < rows else np.arange(rows)
    group = inner.whole(count) if groups > 1 else np.zeros(count, np.int64)
    if (
        (np.diff(of_rows) <= 0).any()
        or not 0 <= int(of_rows[0]) <= int(of_rows[-1]) < rows
        or not 0 <= int(group.min()) <= int(group.max()) < groups
    ):
        raise FormatMismatch(f"corrupt {reader.what}: invalid rows or templates of metadata")
    sizes = np.bincount(group, minlength=groups).tolist()
    found = [
        _read_group(inner, template, of_group)
        for template, of_group in zip(templates, sizes, strict=True)
    ]
    at = np.empty(count, np.int64)
    order = np.argsort(group, kind="stable")
    at[order] = np.concatenate([np.arange(each) for each in sizes])
    return MetadataColumns(of_rows, found, group, at)


def _read_group(reader: Reader, packed: Any, size: int) -> _Group:
    *parts, kinds = packed
    if (
        len(parts) != len(kinds) + 1
        or not all(isinstance(each, bytes) for each in (*parts, kinds))
        or not set(kinds) <= {_WHOLE, _REAL}
        or (kinds and (len(kinds) > MAX_NUMBERS or sum(map(len, parts)) > MAX_FIXED_BYTES))
    ):
        raise FormatMismatch(f"corrupt {reader.what}: an invalid template of metadata")
    columns = [reader.whole(size) if kind == _WHOLE else reader.real(size) for kind in kinds]
    return _Group((tuple(parts), kinds), tuple(columns))


def _merged(metadata: MetadataColumns) -> MetadataColumns:
    """Merge groups: one per template in use, with its texts in order of rows."""
    sources: dict[Template, list[int]] = {}
    for number in np.unique(metadata._group).tolist():
        sources.setdefault(metadata._groups[number].template, []).append(number)
    new = np.empty(len(metadata._groups), np.int64)
    # The start of each group's texts, once those of one template are adjacent.
    offset = np.zeros(len(metadata._groups), np.int64)
    joined_columns = []
    for place, (template, numbers) in enumerate(sources.items()):
        new[numbers] = place
        of_template = [metadata._groups[number].columns for number in numbers]
        joined_columns.append([np.concatenate(each) for each in zip(*of_template, strict=True)])
        if template[1]:
            offset[numbers] = np.cumsum([0, *(len(each[0]) for each in of_template[:-1])])
    group = new[metadata._group]
    order = np.argsort(group, kind="stable")
    ends = np.searchsorted(group[order], np.arange(len(sources) + 1)).tolist()
    at = np.empty(len(group), np.int64)
    groups = []
    for place, (template, columns) in enumerate(zip(sources, joined_columns, strict=True)):
        rows = order[ends[place] : ends[place + 1]]
        at[rows] = np.arange(len(rows))
        taken = offset[metadata._group[rows]] + metadata._at[rows]
        groups.append(_Group(template, tuple(column[taken] for column in columns)))
    return MetadataColumns(metadata.rows, groups, group, at)


def _by_group(group: Ints) -> Iterator[tuple[int, Ints]]:
    """Yield each number in *group*, and its positions."""
    order = np.argsort(group, kind="stable")
    numbers, begins = np.unique(group[order], return_index=True)
    if len(numbers):
        yield from zip(numbers.tolist(), np.split(order, begins[1:]), strict=True)


def _number_of(metadata: Mapping[str, Any], key: str) -> float:
    """Return the number under *key*; NaN if it is missing, of another type, or too large."""
    value = metadata.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return np.nan
    try:
        return float(value) if isfinite(value) else np.nan
    except OverflowError:
        return np.nan


def _split(text: bytes) -> tuple[Template, list[int | float]]:
    """Split a text into its template, and the numbers between the parts."""
    pieces = _NUMBER.split(text, MAX_NUMBERS)
    if len(pieces) == 1 or len(text) > MAX_FIXED_BYTES:
        return ((text,), b""), []
    parts, kinds, numbers = [pieces[0]], b"", []
    for at in range(1, len(pieces), 2):
        number = _number(pieces[at])
        if number is None:
            parts[-1] += pieces[at] + pieces[at + 1]
        else:
            kinds += b"i" if isinstance(number, int) else b"f"
            numbers.append(number)
            parts.append(pieces[at + 1])
    return (tuple(parts), kinds), numbers


def _number(text: bytes) -> int | float | None:
    """Parse a number; return None if the number would be written differently."""
    if text.isdigit() or text[1:].isdigit():
        whole = int(text)
        return whole if -_MOST < whole < _MOST and b"%d" % whole == text else None
    real = float(text)
    # Columns of whole numbers are stored as integers, so -0.0 would lose its sign.
    return real if real and _real_text(real) == text else None


def _real_text(number: float) -> bytes:
    return repr(float(number)).encode()
