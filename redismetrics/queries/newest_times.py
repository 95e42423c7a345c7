"""Bounds of the newest sample of many metrics, from which a query reads only a few.

A sample is in a block of the log that is not sealed, or in a sealed minute. A block's head bounds
its times, and a minute's field is named by its start. Where that is not enough, only the column of
times is decoded.
"""

from collections.abc import Mapping
from typing import Any

from redismetrics.columnar.block_codec import latest_time
from redismetrics.columnar.sample_codec import newest_time
from redismetrics.model.time import HOUR, MINUTE, SECOND, slot_of
from redismetrics.store import keys
from redismetrics.store.driver import Command, Operation
from redismetrics.store.replies import reading
from redismetrics.store.stats import LogProgress


def newest_times(
    namespace: str,
    shards: int,
    names: list[str],
    progress: Mapping[str, LogProgress],
    since_ms: int,
) -> Operation[dict[str, int]]:
    """Return a time in ms that no sample of a metric exceeds, of those that it may have since then.

    Metrics that are left out have no sample of *since_ms* or later, which must be within the
    retention of exact samples.
    """
    hour_ms = slot_of(since_ms, HOUR)
    commands: list[Command] = []
    unknown = LogProgress(1, 0)
    for name in names:
        shard, known = keys.shard_of(name, shards), progress.get(name, unknown)
        if known.newest > known.sealed:
            # First: what has left the unsealed log until it is read is in the minutes.
            log_key, after = keys.metric(namespace, shard, name).log, b"(%d" % known.sealed
            commands.append(("ZRANGEBYSCORE", log_key, after, "+inf"))
        commands += [
            ("HGET", keys.rollup(namespace, shard, name).state, "newest"),
            ("HKEYS", keys.data(namespace, shard, name, "minute", hour_ms)),
        ]
    replies = iter((yield commands))
    found: dict[str, int] = {}
    fields_by_name: dict[str, list[bytes]] = {}
    for name in names:
        known = progress.get(name, unknown)
        log = next(replies) if known.newest > known.sealed else []
        newest, fields = next(replies), next(replies)
        with reading(f"state of {name!r}"):
            latest = _latest_of_log(log)
            newest_ms = -1 if newest is None else int(newest) * SECOND
            if newest_ms > hour_ms:
                latest = max(latest, newest_ms + HOUR - 1)
            elif newest_ms == hour_ms and (fields := _fields_since(fields, since_ms)):
                fields_by_name[name] = fields
        if latest >= since_ms:
            found[name] = latest
    sealed_times = yield from _sealed_times(namespace, shards, fields_by_name, since_ms)
    for name, latest in sealed_times.items():
        if latest >= since_ms:
            found[name] = max(latest, found.get(name, -1))
    return found


def _latest_of_log(log: list[bytes]) -> int:
    """Return a time in ms that no sample of these blocks exceeds; -1 if there are none."""
    latest = -1
    # From the end: a block is rarely looked into if the samples of a later one are newer than it.
    for data in reversed(log):
        if latest_time(data) > latest:
            latest = max(latest, latest_time(data, look_inside=True))
    return latest


def _fields_since(fields: list[bytes], since_ms: int) -> list[bytes]:
    """Return the fields of a partition of minutes that may have samples since then."""
    minute_s = slot_of(since_ms, MINUTE) // SECOND
    return [
        field
        for field in fields
        if (slot := field.partition(b"/")[0]) == b"segment" or int(slot) >= minute_s
    ]


def _sealed_times(
    namespace: str, shards: int, fields_by_name: Mapping[str, list[bytes]], since_ms: int
) -> Operation[dict[str, int]]:
    """Return a time in ms that no sample of these fields of minutes exceeds."""
    hour_ms, minute_ms = slot_of(since_ms, HOUR), slot_of(since_ms, MINUTE)
    found: dict[str, int] = {}
    commands: list[Command] = []
    asked = []
    for name, fields in fields_by_name.items():
        starts = [field.partition(b"/")[0] for field in fields]
        if b"segment" in starts:
            # All minutes of the hour in one field.
            found[name] = hour_ms + HOUR - 1
        elif (last_ms := max(map(int, starts)) * SECOND) > minute_ms:
            found[name] = last_ms + MINUTE - 1
        else:
            # A row whose samples are not stored exactly is listed at the start of its minute.
            found[name] = minute_ms
            raw = keys.data(namespace, keys.shard_of(name, shards), name, "raw", hour_ms)
            commands.append(("HMGET", raw, *fields))
            asked.append(name)
    replies: list[Any] = (yield commands) if commands else []
    for name, values in zip(asked, replies, strict=True):
        with reading(f"samples of {name!r}"):
            times = [newest_time(data) for data in values if data]
            found[name] = max(times, default=found[name])
    return found
