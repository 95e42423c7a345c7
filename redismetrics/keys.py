"""
Every name redismetrics gives to anything in Redis.

    rm:<ns>:config                            hash    format, shards: the first to come writes it, the others are told
    rm:{<ns>:<shard>}:clock                   string  the last server time given to a batch, in µs; only grows
    rm:{<ns>:<shard>}:writers                 hash    writer -> last sequence applied, its clock, its reply (msgpack)
    rm:{<ns>:<shard>}:catalogue               hash    metric -> its Definition and when it came (msgpack)
    rm:{<ns>:<shard>}:dirty                   zset    metric by the clock of its last batch
    rm:{<ns>:<shard>}:<metric>:series         hash    canonical tags -> series id (a small integer, never used again); the field
                                                      '' only pads it, see record.lua
    rm:{<ns>:<shard>}:<metric>:live           hash    rows of series -> packed running state (see LIVE)
    rm:{<ns>:<shard>}:<metric>:log            zset    block, scored by the batch's clock: in order of arrival
    rm:{<ns>:<shard>}:<metric>:state          hash    version, sealed, next (series id), bytes (of the log), samples,
                                                      never_sealed (cut from the log unmerged), waiting (oldest unsealed)
    rm:<ns>:stream:<metric>                   channel the block just recorded, exactly as in the log

The braces keep a shard on one cluster node, as its scripts need. A metric lives in shard crc32(name) % shards.
Colons in a metric's name can't collide: a key ends in one of the fixed words, and a shard's own have no metric before.

LIVE: a row of little-endian doubles a series, in the field id // LIVE_ROWS, where it is the row id % LIVE_ROWS; a row that
begins with 0 is none. Several rows in one field cost a third of the memory and of the time of a field each; the wide rows of
histograms have a field of their own.
    counter    seen_ms, total, remainder
    gauge      seen_ms, value, timestamp_ms, clock_us of the batch it came with
    histogram  seen_ms, count, sum, remainder, one count for each bucket (not cumulative, +Inf left out)
A sum is a pair: total + remainder, so that neither many small additions nor large integers lose digits.

FORMAT is raised when the meaning of stored bytes changes; a dump of each one stays in tests/golden/.
"""

from typing import NamedTuple
from zlib import crc32

FORMAT = 1

LIVE_ROWS = {"counter": 16, "gauge": 16, "histogram": 1}
_LIVE_WIDTH = {"counter": 3, "gauge": 4, "histogram": 4}


def live_shape(kind: str, buckets: int) -> tuple[int, int]:
    """How many doubles the running state of a series has, and how many series share a field."""
    return _LIVE_WIDTH[kind] + (buckets if kind == "histogram" else 0), LIVE_ROWS[kind]


class MetricKeys(NamedTuple):
    """The keys of one metric, in the order that the scripts take them."""

    series: str
    live: str
    log: str
    state: str


class ShardKeys(NamedTuple):
    """The keys that all metrics of one shard share, in the order that the scripts take them."""

    clock: str
    writers: str
    catalogue: str
    dirty: str


def config(namespace: str) -> str:
    return f"rm:{namespace}:config"


def shard_of(metric: str, shards: int) -> int:
    return crc32(metric.encode()) % shards


def shard(namespace: str, number: int) -> ShardKeys:
    head = f"rm:{{{namespace}:{number}}}"
    return ShardKeys(f"{head}:clock", f"{head}:writers", f"{head}:catalogue", f"{head}:dirty")


def metric(namespace: str, number: int, name: str) -> MetricKeys:
    head = f"rm:{{{namespace}:{number}}}:{name}"
    return MetricKeys(f"{head}:series", f"{head}:live", f"{head}:log", f"{head}:state")


def channel(namespace: str, metric: str) -> str:
    return f"rm:{namespace}:stream:{metric}"


def channel_pattern(namespace: str, pattern: str) -> str:
    """The glob that matches the channels of all metrics that the glob *pattern* matches."""
    return f"rm:{namespace}:stream:{pattern}"


def metric_of_channel(namespace: str, name: str) -> str:
    return name.removeprefix(f"rm:{namespace}:stream:")
