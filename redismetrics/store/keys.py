r"""
Every name redismetrics gives to anything in Redis.

    rm:<ns>:config                            hash    format, shards, retentions: the first to come writes it, the others are told
    rm:{<ns>:<shard>}:clock                   string  the last server time given to a batch, in µs; only grows
    rm:{<ns>:<shard>}:writers                 hash    writer -> last sequence applied, its clock, its reply (msgpack)
    rm:{<ns>:<shard>}:catalogue               hash    metric -> its Definition and when it came (msgpack)
    rm:<ns>:workers                           zset    live workers, by last heartbeat in ms
    rm:<ns>:copying                           hash    metric -> what of it was copied to here, until all is (see copying.py)
    rm:<ns>:copier                            string  who is copying to here, expires
    rm:{<ns>:<shard>}:dirty                   zset    metric by the clock of its last batch, until all of it is sealed
    rm:{<ns>:<shard>}:pending                 zset    "<level> <slot> <chunk> <metric>" by when it is due, in ms: an index of all
                                                      `due`; and what a metric needs of tidying, "trim 0 0", "sweep 0 0"
    rm:{<ns>:<shard>}:<metric>:series         hash    canonical tags -> series id (a small integer, never used again); the field
                                                      '' only pads it, see record.lua
    rm:{<ns>:<shard>}:<metric>:live           hash    rows of series -> packed running state (see LIVE)
    rm:{<ns>:<shard>}:<metric>:log            zset    block, scored by the batch's clock: in order of arrival
    rm:{<ns>:<shard>}:<metric>:state          hash    version, sealed, next (series id), bytes (of the log), samples,
                                                      never_sealed (cut from the log unmerged), waiting (oldest unsealed),
                                                      late (came after its minutes were gone), pruned (exact ones),
                                                      cut (clock of the newest block taken off the log),
                                                      oldest, newest (hours, in s, that were ever sealed into)
    rm:{<ns>:<shard>}:<metric>:values         hash    tag -> how many values it has; "<tag>\0<value>" -> how many series have it
    rm:{<ns>:<shard>}:<metric>:due            hash    "<level> <slot> <chunk>" -> when it is due: coarse slots that are open, or
                                                      changed since they were made
    rm:{<ns>:<shard>}:<metric>:held           hash    "<level> <span>" -> bytes in that key; "samples <hour>" -> how many were
                                                      sealed into it
    rm:{<ns>:<shard>}:<metric>:touched        zset    "<level> <span> <field>" written, and "=<version>", by number of commit:
                                                      what a reader's cache must forget
    rm:{<ns>:<shard>}:<metric>:raw:<hour>     hash    "<minute>/<chunk>" -> exact samples, while they are few (see sealed.py)
    rm:{<ns>:<shard>}:<metric>:minute:<hour>  hash    "<minute>/<chunk>" -> rollup rows
    rm:{<ns>:<shard>}:<metric>:hour:<day>     hash    "<hour>/<chunk>" -> rollup rows
    rm:{<ns>:<shard>}:<metric>:day:<32 days>  hash    "<day>/<chunk>" -> rollup rows
    rm:<ns>:stream:<metric>                   channel the block just recorded, exactly as in the log

The braces keep a shard on one cluster node, as its scripts need. A metric lives in shard crc32(name) % shards.
Colons in a metric's name can't collide: a key ends in one of the fixed words, and a shard's own have no metric before.

Slots and spans are written in Unix seconds. A chunk is CHUNK series with neighbouring ids, so that asking one series doesn't
read 100,000. Once a span's coarser slot was made its fields are one, "segment/<chunk>"; a field beside it counts instead of
the segment's rows of that slot, until the next making folds it in. Such keys expire by themselves: retention is expiry.

LIVE: a row of little-endian doubles a series, in the field id // LIVE_ROWS, where it is the row id % LIVE_ROWS; a row that
begins with 0 is none. Several rows in one field cost a third of the memory and of the time of a field each; the wide rows of
histograms have a field of their own.
    counter    seen_ms, total, remainder
    gauge      seen_ms, value, timestamp_ms, clock_us of the batch it came with
    histogram  seen_ms, count, sum, remainder, one count for each bucket (not cumulative, +Inf left out)
A sum is a pair: total + remainder, so that neither many small additions nor large integers lose digits.

FORMAT is raised when the meaning of stored bytes changes; a dump of each one stays in tests/system/golden/.
"""

from typing import NamedTuple
from zlib import crc32

FORMAT = 1

LIVE_ROWS = {"counter": 16, "gauge": 16, "histogram": 1}
# So many series share a field; fewer where their rows have digests.
CHUNK = {"counter": 1024, "gauge": 512, "histogram": 128}
_LIVE_WIDTH = {"counter": 3, "gauge": 4, "histogram": 4}


def totals_shape(kind: str, buckets: int) -> tuple[int, int]:
    """How many doubles the running state of a series has, and how many series share a field."""
    return _LIVE_WIDTH[kind] + (buckets if kind == "histogram" else 0), LIVE_ROWS[kind]


class MetricKeys(NamedTuple):
    """The keys of one metric, in the order that record.lua takes them."""

    series: str
    live: str
    log: str
    state: str
    values: str


class ShardKeys(NamedTuple):
    """The keys that all metrics of one shard share, in the order that record.lua takes them."""

    clock: str
    writers: str
    catalogue: str
    dirty: str


class RollupKeys(NamedTuple):
    """The keys of one metric that workers write, beside those of its data."""

    due: str
    held: str
    touched: str


def config(namespace: str) -> str:
    return f"rm:{namespace}:config"


def shard_of(metric: str, shards: int) -> int:
    return crc32(metric.encode()) % shards


def shard(namespace: str, number: int) -> ShardKeys:
    head = f"rm:{{{namespace}:{number}}}"
    return ShardKeys(f"{head}:clock", f"{head}:writers", f"{head}:catalogue", f"{head}:dirty")


def metric(namespace: str, number: int, name: str) -> MetricKeys:
    head = f"rm:{{{namespace}:{number}}}:{name}"
    return MetricKeys(
        f"{head}:series", f"{head}:live", f"{head}:log", f"{head}:state", f"{head}:values"
    )


def rollup(namespace: str, number: int, name: str) -> RollupKeys:
    head = f"rm:{{{namespace}:{number}}}:{name}"
    return RollupKeys(f"{head}:due", f"{head}:held", f"{head}:touched")


def data(namespace: str, number: int, name: str, level: str, span_ms: int) -> str:
    """The hash of one span of one level."""
    return f"rm:{{{namespace}:{number}}}:{name}:{level}:{span_ms // 1000}"


def data_name(level: str, span_ms: int) -> str:
    """The same, as `held` and `touched` call it."""
    return f"{level} {span_ms // 1000}"


def cell_field(slot_ms: int, chunk: int) -> str:
    return f"{slot_ms // 1000}/{chunk}"


def segment_field(chunk: int) -> str:
    return f"segment/{chunk}"


def due_field(level: str, slot_ms: int, chunk: int) -> str:
    return f"{level} {slot_ms // 1000} {chunk}"


def pending(namespace: str, number: int) -> str:
    return f"rm:{{{namespace}:{number}}}:pending"


def workers(namespace: str) -> str:
    return f"rm:{namespace}:workers"


def copying(namespace: str) -> str:
    return f"rm:{namespace}:copying"


def copier(namespace: str) -> str:
    return f"rm:{namespace}:copier"


def channel(namespace: str, metric: str) -> str:
    return f"rm:{namespace}:stream:{metric}"


def channel_pattern(namespace: str, pattern: str) -> str:
    """The glob that matches the channels of all metrics that the glob *pattern* matches."""
    return f"rm:{namespace}:stream:{pattern}"


def metric_of_channel(namespace: str, name: str) -> str:
    return name.removeprefix(f"rm:{namespace}:stream:")


SPAN = "span"  # the level above the coarsest: it has no rows, its making only folds those of a span into a segment
FOLD = "fold-"  # and a level's name: folds what of a part of a span has passed into the segment, long before the span ends
TRIM, SWEEP = "trim 0 0", "sweep 0 0"  # what of tidying is pending
