"""Bounds of the newest samples of many metrics, so that a query has to read only a few metrics.

A sample is in an unsealed block of the log, or in a sealed minute. A block's header bounds its
times, and a minute's field is named by its start. Where that is not enough, only the column of
times is decoded.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from redismetrics.columnar.block_codec import latest_time
from redismetrics.columnar.sample_codec import newest_time
from redismetrics.model.time import HOUR, MINUTE, SECOND, slot_of
from redismetrics.store import keys
from redismetrics.store.driver import Command, Operation
from redismetrics.store.pausing_gc import pausing_gc
from redismetrics.store.replies import reading
from redismetrics.store.stats import LogProgress


def newest_times(
    namespace: str,
    shards: int,
    names: list[str],
    progress: Mapping[str, LogProgress],
    since_ms: int,
) -> Operation[dict[str, int]]:
    """Return an upper bound in ms of the newest sample of each metric.

    Metrics without samples since *since_ms* are left out. This time must be within the retention of
    exact samples.
    """
    hour_ms = slot_of(since_ms, HOUR)
    unknown = LogProgress(1, 0)
    known = {name: progress.get(name, unknown) for name in names}
    with pausing_gc():
        commands = _commands(namespace, shards, known, hour_ms)
    replies = yield commands
    with pausing_gc():
        found, minutes = _read_times(known, replies, since_ms, hour_ms)
    sealed_times = yield from _sealed_times(namespace, shards, minutes, since_ms)
    for name, latest in sealed_times.items():
        if latest >= since_ms:
            found[name] = max(latest, found.get(name, -1))
    return found


def _commands(
    namespace: str, shards: int, progress: Mapping[str, LogProgress], hour_ms: int
) -> list[Command]:
    commands: list[Command] = []
    for name, (newest, sealed) in progress.items():
        shard = keys.shard_of(name, shards)
        if newest > sealed:
            # First, because blocks sealed before the log is read are then in the minutes.
            log = keys.log(namespace, shard, name)
            commands.append(("ZRANGEBYSCORE", log, b"(%d" % sealed, "+inf"))
        commands.append(("HGET", keys.state(namespace, shard, name), "newest"))
        commands.append(("HKEYS", keys.data(namespace, shard, name, "minute", hour_ms)))
    return commands


def _read_times(
    progress: Mapping[str, LogProgress], replies: Iterable[Any], since_ms: int, hour_ms: int
) -> tuple[dict[str, int], dict[str, "_Minutes"]]:
    """Return the times of metrics from *since_ms* on, and the minutes that bound the others."""
    replies = iter(replies)
    found: dict[str, int] = {}
    minutes_by_name: dict[str, _Minutes] = {}
    for name, known in progress.items():
        log = next(replies) if known.newest > known.sealed else []
        newest, fields = next(replies), next(replies)
        with reading(f"state of {name!r}"):
            latest = _latest_of_log(log) if log else -1
            newest_ms = -1 if newest is None else int(newest) * SECOND
            if newest_ms > hour_ms:
                latest = max(latest, newest_ms + HOUR - 1)
            elif newest_ms == hour_ms:
                minutes = _minutes_since(fields, since_ms)
                if minutes.fields:
                    minutes_by_name[name] = minutes
        if latest >= since_ms:
            found[name] = latest
    return found, minutes_by_name


class _Minutes(NamedTuple):
    """Fields of a partition of minutes, and the start in ms of the last minute among them.

    The start is -1 if one of the fields holds all minutes of its hour.
    """

    fields: list[bytes]
    last_ms: int


def _latest_of_log(log: list[bytes]) -> int:
    """Return an upper bound in ms of the samples in these blocks; -1 if there are none."""
    latest = -1
    # From the end: a block rarely has to be decoded if a later one has newer samples.
    for data in reversed(log):
        if latest_time(data) > latest:
            latest = max(latest, latest_time(data, look_inside=True))
    return latest


def _minutes_since(fields: list[bytes], since_ms: int) -> _Minutes:
    """Return the fields of a partition that may have samples since then."""
    minute_s = slot_of(since_ms, MINUTE) // SECOND
    kept, last_s, has_segment = [], 0, False
    for field in fields:
        slot = field.partition(b"/")[0]
        if slot == b"segment":
            has_segment = True
        elif int(slot) >= minute_s:
            last_s = max(last_s, int(slot))
        else:
            continue
        kept.append(field)
    return _Minutes(kept, -1 if has_segment else last_s * SECOND)


def _sealed_times(
    namespace: str, shards: int, minutes_by_name: Mapping[str, _Minutes], since_ms: int
) -> Operation[dict[str, int]]:
    """Return an upper bound in ms of the samples in these fields of minutes."""
    hour_ms, minute_ms = slot_of(since_ms, HOUR), slot_of(since_ms, MINUTE)
    found: dict[str, int] = {}
    commands: list[Command] = []
    asked = []
    with pausing_gc():
        for name, (fields, last_ms) in minutes_by_name.items():
            if last_ms < 0:
                found[name] = hour_ms + HOUR - 1
            elif last_ms > minute_ms:
                found[name] = last_ms + MINUTE - 1
            else:
                # A row whose samples are not stored exactly is listed at the start of its minute.
                found[name] = minute_ms
                raw = keys.data(namespace, keys.shard_of(name, shards), name, "raw", hour_ms)
                commands.append(("HMGET", raw, *fields))
                asked.append(name)
    replies: list[Any] = (yield commands) if commands else []
    with pausing_gc():
        for name, values in zip(asked, replies, strict=True):
            with reading(f"samples of {name!r}"):
                times = [newest_time(data) for data in values if data]
                found[name] = max(times, default=found[name])
    return found
