"""Read the catalogue: definitions and series of metrics."""

from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

from redismetrics.errors import FormatMismatch, shown
from redismetrics.model.definition import Definition, NewerType
from redismetrics.model.options import Options
from redismetrics.model.validation import MetricType, check_name

from . import keys, scripts
from .driver import Command, Operation, gather
from .namespace import shards
from .pausing_gc import pausing_gc
from .replies import (
    DECODING_ERRORS,
    STAMP_BYTES,
    pairs,
    read_definition,
    read_now_ms,
    read_series,
    read_stamp,
    reading,
)
from .unreadable import Skipped, skip

# Series read per round trip when many metrics are described; a single metric may have more.
_SERIES_PER_TRIP = 10_000


def definitions(
    namespace: str, shard: int, names: list[str]
) -> Operation[dict[str, Definition | FormatMismatch]]:
    """Return the definitions of these metrics in one shard; missing metrics are left out.

    A definition that cannot be read is replaced by its error.
    """
    (found,) = yield [("HMGET", keys.shard(namespace, shard).catalogue, *names)]
    known: dict[str, Definition | FormatMismatch] = {}
    for name, data in zip(names, found, strict=True):
        if data is not None:
            try:
                known[name] = read_definition(name, data)
            except FormatMismatch as error:
                known[name] = error
    return known


def set_options(
    namespace: str, shard: int, name: str, options: Options
) -> Operation[Definition | None]:
    """Set the options given in *options*, and keep the others; return the new definition.

    None if the metric does not exist. Concurrent changes by other processes are not lost.

    Raises:
        FormatMismatch: If the definition cannot be read.
    """
    of_shard = keys.shard(namespace, shard)
    catalogue = of_shard.catalogue
    while True:
        entry, time = yield [("HGET", catalogue, name), ("TIME",)]
        if entry is None:
            return None
        definition = read_definition(name, entry)
        if definition.with_options(options) == definition:
            return definition
        now_s = read_now_ms(time) // 1000
        changed = definition.with_options(options.at(now_s, definition.options))
        new = changed.pack() + entry[-STAMP_BYTES:]
        sha = scripts.script("define").sha
        (done,) = yield [("EVALSHA", sha, 2, catalogue, of_shard.recorded, name, entry, new)]
        if done:
            return changed


def exists(namespace: str, name: str) -> Operation[bool]:
    """Return whether there is a metric of this name, even if its definition cannot be read."""
    shard = keys.shard_of(name, (yield from shards(namespace)))
    (found,) = yield [("HEXISTS", keys.shard(namespace, shard).catalogue, name)]
    return bool(found)


def types(namespace: str, names: list[str]) -> Operation[dict[str, MetricType]]:
    """Return the types of these metrics, without metrics that do not exist or cannot be read."""
    count, found = (yield from shards(namespace)), {}
    for shard in range(count):
        of_shard = [name for name in names if keys.shard_of(name, count) == shard]
        known = (yield from definitions(namespace, shard, of_shard)) if of_shard else {}
        found.update(
            {name: each.type for name, each in known.items() if isinstance(each, Definition)}
        )
    return found


class MetricDescription(NamedTuple):
    """A metric in the catalogue.

    Attributes:
        definition: Its definition; None if the metric is unknown.
        series: The tags of its series, by id.
        stamp: When it was added, as stored; it differs between stores.
    """

    definition: Definition | None
    series: dict[int, dict[str, str]]
    stamp: bytes = b""


def describe(namespace: str, shard: int, name: str) -> Operation[MetricDescription]:
    """Return the definition, the series and the stamp of a metric."""
    definition, flat = yield [
        ("HGET", keys.shard(namespace, shard).catalogue, name),
        ("HGETALL", keys.metric(namespace, shard, name).series),
    ]
    if definition is None:
        return MetricDescription(None, read_series(flat))
    stamp = definition[-STAMP_BYTES:]
    return MetricDescription(read_definition(name, definition), read_series(flat), stamp)


# A description, or why it cannot be read.
Described = MetricDescription | FormatMismatch


def describe_many(
    namespace: str, metrics: Sequence[tuple[int, str]]
) -> Operation[dict[tuple[int, str], Described]]:
    """Return the descriptions of *metrics*, given by shard and name, in few round trips."""
    counts = [1] * len(metrics)
    if len(metrics) > 1:
        counts = yield [
            ("HLEN", keys.metric(namespace, shard, name).series) for shard, name in metrics
        ]
    found: dict[tuple[int, str], Described] = {}
    start = 0
    while start < len(metrics):
        end, series = start + 1, counts[start]
        while end < len(metrics) and series + counts[end] <= _SERIES_PER_TRIP:
            series += counts[end]
            end += 1
        part = metrics[start:end]
        described = yield from gather([_describe_or_error(namespace, *each) for each in part])
        found.update(zip(part, described, strict=True))
        start = end
    return found


def _describe_or_error(namespace: str, shard: int, name: str) -> Operation[Described]:
    try:
        return (yield from describe(namespace, shard, name))
    except FormatMismatch as error:
        return error


def catalogue(
    namespace: str,
    shards: int,
    *,
    strict: bool = False,
    skipped: Skipped | None = None,
    added: dict[str, int] | None = None,
) -> Operation[dict[str, Definition]]:
    """Return the definitions of all metrics, in the order in which they were first recorded.

    A metric whose entry cannot be read is left out and added to *skipped*. With *strict*, this
    raises `FormatMismatch`, unless only a newer version knows its type. *added* receives the time
    when each metric was added, by the server's clock in µs.
    """
    entries = yield from _entries(namespace, shards)
    with pausing_gc():
        found = _read_entries(entries, strict=strict, skipped=skipped)
        found.sort(key=itemgetter(0, 1))
    if added is not None:
        added.update((name, read_stamp(stamp)) for stamp, name, _ in found)
    return {name: definition for _, name, definition in found}


def _read_entries(
    entries: list[tuple[bytes, bytes]], *, strict: bool, skipped: Skipped | None
) -> list[tuple[bytes, str, Definition]]:
    """Return stamp, name and definition of each entry of the catalogue; see `catalogue`."""
    found = []
    for name, data in entries:
        checked = ""
        # A fast path: there may be many.
        try:
            definition = Definition.unpack(data[:-STAMP_BYTES])
            found.append((data[-STAMP_BYTES:], check_name(name.decode()), definition))
            continue
        except DECODING_ERRORS:
            pass
        try:
            with reading("the catalogue"):
                checked = check_name(name.decode())
            found.append((data[-STAMP_BYTES:], checked, read_definition(checked, data)))
        except FormatMismatch as error:
            if strict and not isinstance(error.__cause__, NewerType):
                raise
            skip(checked or shown(name), error, skipped)
    return found


def names(namespace: str, shards: int) -> Operation[list[str]]:
    """Return the names of all metrics, including those whose definition cannot be read."""
    entries = yield from _entries(namespace, shards)
    return [name.decode(errors="replace") for name, _ in entries]


def _entries(namespace: str, shards: int) -> Operation[list[tuple[bytes, bytes]]]:
    replies = yield [("HGETALL", keys.shard(namespace, shard).catalogue) for shard in range(shards)]
    return [entry for flat in replies for entry in pairs(flat).items()]


def series(namespace: str, shard: int, name: str) -> Operation[list[dict[str, str]]]:
    """Return the tags of all series of a metric."""
    (flat,) = yield [("HGETALL", keys.metric(namespace, shard, name).series)]
    return list(read_series(flat).values())


def series_counts(namespace: str, shards: int, names: list[str]) -> Operation[dict[str, int]]:
    """Return the number of series of each of these metrics."""
    commands: list[Command] = []
    for name in names:
        key = keys.metric(namespace, keys.shard_of(name, shards), name).series
        commands += [("HLEN", key), ("HEXISTS", key, "")]
    replies = (yield commands) if commands else []
    return {name: replies[2 * at] - replies[2 * at + 1] for at, name in enumerate(names)}
