r"""
Every name that redismetrics gives to anything in Redis.

    rm:<ns>:config          hash    format, shards, retentions; written once, by the first process
    rm:<ns>:workers         zset    worker, scored by its last heartbeat in ms
    rm:<ns>:copying         hash    metric -> what of it was copied to here, until all is copied
                                    (see admin/copy_metric.py)
    rm:<ns>:copier          string  the process that copies to here; expires
    rm:<ns>:push            hash    hash of a target -> who pushes to it; see lua/include/lease.lua;
                                    expires a day after the last push
    rm:<ns>:request:<hash>  string  a request to record that must not count twice, by the hash of
                                    its Idempotency-Key; expires after an hour (see requests.py)
    rm:<ns>:requests        zset    hash of such a request, scored by when it was claimed, in ms of
                                    the process that claimed it: what `clear` deletes; expires
    rm:<ns>:archive         hash    archive and group of metrics -> who archives it; see
                                    lua/include/lease.lua; expires
    rm:<ns>:marks           zset    mark (msgpack [id, text, tags]), scored by its time in ms; the
                                    newest 10,000; expires with the days (see marks.py)
    rm:<ns>:stream:<metric> channel the block just recorded, as in the log. It ends in the stamp
                                    that the metric has in the catalogue: the clock at which it was
                                    added. In database 1, stream:@1:<metric>: channels are shared by
                                    all databases of a server, keys are not

Keys of a shard begin with rm:{<ns>:<shard>}:

    clock                   string  server time given to the last batch, in µs; only grows
    writers                 hash    writer -> last sequence applied, its clock, its reply (msgpack)
    catalogue               hash    metric -> its definition (see DEFINITION), and when it was added
                                    (msgpack)
    dirty                   zset    metric, scored by the clock of its last batch, rounded up to a
                                    second, until its log is sealed to the end
    recorded                hash    metric -> what recording keeps of it: a row of doubles, see
                                    record_state.py; it outlives the metric
    pending                 zset    "<due slot> <metric>", scored by when it is due, in ms: an
                                    index of all `due`, and the cleanups ("trim 0 0", "sweep 0 0",
                                    "processes 0 0")

Keys of a metric begin with rm:{<ns>:<shard>}:<metric>:

    series                  hash    canonical tags -> series id (a small integer, never reused);
                                    the field '' is padding, see record.lua
    live                    hash    totals, see LIVE
    exemplars               hash    "<series id> <bucket>" -> newest exemplar, see EXEMPLARS
    log                     zset    block, scored by the clock of its batch: in order of arrival
    values                  hash    tag -> number of its values;
                                    "<tag>\0<value>" -> number of series with it
    state                   hash    version, sealed (clock), late (its minute had expired), pruned
                                    (exact samples), inexact (not kept one by one, since
                                    `exact_samples` took too many bytes), oldest and newest (hours,
                                    in s, that were ever sealed into)
    due                     hash    due slot (see due_slot.py) -> when it is due: coarser slots
                                    that are open, or whose source changed after downsampling
    held                    hash    "<resolution> <partition>" -> bytes in that key;
                                    "samples <hour>" -> samples sealed into it
    touched                 zset    "<resolution> <partition> <field>" written, and "=<version>",
                                    scored by number of commit: what a query cache must forget
    raw:<hour>              hash    "<minute>/<chunk>" -> exact samples, while they are few
    minute:<hour>           hash    "<minute>/<chunk>" -> rollup rows
    hour:<day>              hash    "<hour>/<chunk>" -> rollup rows
    day:<32 days>           hash    "<day>/<chunk>" -> rollup rows

Keys of alerts begin with rm:{<ns>:alerts}:

    leases                  hash    piece of work -> who does it, see lua/include/lease.lua
    groups                  zset    rule group, scored by its last evaluation in ms
    group:<group>           hash    "" -> how its last evaluation went (msgpack);
                                    "<rule> <alert>" -> the state of an alert (msgpack)
    history                 zset    change of an alert's state (msgpack), scored by its time in ms
    silences                hash    id -> silence (msgpack)
    sent                    hash    "<receiver> <alerts>" -> the last notification (msgpack)

They expire by themselves, some time after the last write. There are at most as many as alerts, and
100,000 changes of states.

The braces keep a shard on one cluster node, as its scripts need. A metric belongs to shard
crc32(name) % shards. Colons in a metric's name cannot collide: a key ends in one of the fixed
words, and no metric precedes the keys of the shard itself.

Slots and partitions are written as their start in Unix seconds. A chunk is CHUNK series with
neighbouring ids, so that a query for one series does not read 100,000. Merging replaces the
fields of a chunk in a partition by one, "segment/<chunk>". A slot's own field beside the segment
replaces the segment's rows of that slot, until the next merge. Data keys expire by themselves:
retention is expiry.

LIVE: the totals of all series are rows, and changes that are not added to them yet.
    <number>   rows, little-endian doubles: series id is row id % TOTALS_ROWS of field
               id // TOTALS_ROWS. A row that begins with 0 is unused. Rows that share a field cost a
               third of the memory and time of a field each; the wide rows of histograms have
               their own field
        counter    seen_ms, total, remainder
        gauge, info, stateset
                   seen_ms, value, timestamp_ms, clock_us of its batch
        histogram  seen_ms, count, sum, remainder, count of each bucket (not cumulative, without
                   +Inf)
        summary    seen_ms, count, sum, remainder
    +<number>  a change: what one batch adds. Changes are numbered for ever; for their bytes see
               lua/include/totals.lua
    first      number of the oldest change
    <series id> <writer>
               value of one process, of a gauge declared with per="process": value, timestamp_ms,
               clock_us of its batch (doubles; the clock is below 0 if the process has ended), its
               pid (u4), the place where that is valid (8 bytes), its host. Written at once. The
               clock shows that the process lives, so an idle one repeats its values
    <series id> (and a space)
               what processes that are gone left: merged value, timestamp_ms (below 0: none), newest
               clock_us; then at most 32 entries, writer (16 bytes), value, timestamp_ms, of those
               that are still kept apart. See columnar/process_values.py
record.lua appends changes, which costs much less than changing the rows. Workers, and record.lua
where there are many, fold them: they put sums in place of rows and take the changes off. Rows and
changes are in one hash, which one command reads as one cut. The current totals are the rows plus
the changes, in order of their numbers. A sum is stored as total + remainder, so that neither many
small additions nor large integers lose digits (two-sum; Knuth, The Art of Computer Programming,
volume 2, section 4.2.2).

An info is a gauge with its labels as tags, of which the tag redismetrics.labels has the names, and
a state set is a gauge with the state as the tag that has the metric's name. What is set is 1. Of
the series whose other tags are equal, only the one with the newest time, and then clock, counts.

EXEMPLARS: msgpack [value, timestamp_ms, clock_us of its batch, labels]. The newest by time, then by
clock. Buckets are numbered from 1, +Inf is the last; 0: of a counter. At most one for each series
and bucket. Readers leave out those older than a day. The key expires a day after the last write, or
at once when it has too many fields (see lua/include/exemplars.lua). Deleted with its series or
metric. Read before the totals, so that no bucket lacks its exemplar.

DEFINITION: msgpack [type, unit, help, buckets, tag keys or nil, options...]. Options are one map,
from a name to a value: how exact samples, retention, lookback, limits and the merge mode of
processes differ from the default; see model/options.py. They are replaced as a whole, by a script
that compares the definition with the one that was read (define.lua). A process that does not know
an option, or an element behind the options, keeps its bytes.

LATER: what this version has room for, and does not write. It skips what it does not know, and
counts it: changes of unknown kinds and fields of `live` on the page, metrics of unknown types in
listings. It deletes and copies all of it. No worker or script folds a change of an unknown kind, or
one behind it. While one waits, no series is forgotten, and the shared value of a gauge does not
change.

Raise FORMAT when the meaning of stored bytes changes; keep a dump of each format in
tests/system/golden/.
"""

from functools import lru_cache
from typing import NamedTuple
from zlib import crc32

FORMAT = 2

# Series whose totals share a field.
TOTALS_ROWS = {
    "counter": 16,
    "gauge": 16,
    "histogram": 1,
    "summary": 16,
    "info": 16,
    "stateset": 16,
}
_TOTALS_WIDTH = {**dict.fromkeys(TOTALS_ROWS, 4), "counter": 3}

# Series whose rollup rows share a field: fewer for types whose rows have digests.
CHUNK = {
    "counter": 1024,
    "gauge": 512,
    "histogram": 128,
    "summary": 128,
    "info": 512,
    "stateset": 512,
}


def totals_shape(kind: str, buckets: int) -> tuple[int, int]:
    """Return the number of doubles in a series' totals, and the number of series per field."""
    return _TOTALS_WIDTH[kind] + (buckets if kind == "histogram" else 0), TOTALS_ROWS[kind]


class MetricKeys(NamedTuple):
    """Keys of one metric written by recording, in the order of record.lua's KEYS."""

    series: str
    totals: str
    log: str
    values: str


class ShardKeys(NamedTuple):
    """Keys that the metrics of a shard share, in the order of record.lua's KEYS."""

    clock: str
    writers: str
    catalogue: str
    dirty: str
    recorded: str


class RollupKeys(NamedTuple):
    """Keys of one metric written only by workers, apart from its data keys."""

    state: str
    due: str
    held: str
    touched: str


class CountedKeys(NamedTuple):
    """Keys of one metric whose contents or sizes are its statistics."""

    series: str
    log: str
    state: str
    held: str


def config(namespace: str) -> str:
    return f"rm:{namespace}:config"


def shard_of(metric: str, shards: int) -> int:
    return crc32(metric.encode()) % shards


def shard(namespace: str, number: int) -> ShardKeys:
    head = f"rm:{{{namespace}:{number}}}"
    return ShardKeys(
        f"{head}:clock",
        f"{head}:writers",
        f"{head}:catalogue",
        f"{head}:dirty",
        f"{head}:recorded",
    )


def metric(namespace: str, number: int, name: str) -> MetricKeys:
    head = f"rm:{{{namespace}:{number}}}:{name}"
    return MetricKeys(f"{head}:series", f"{head}:live", f"{head}:log", f"{head}:values")


def log(namespace: str, number: int, name: str) -> str:
    """Return this key of `metric` alone."""
    return f"rm:{{{namespace}:{number}}}:{name}:log"


def counted(namespace: str, number: int, name: str) -> CountedKeys:
    """Return the keys of a metric from which its statistics are read."""
    head = f"rm:{{{namespace}:{number}}}:{name}"
    return CountedKeys(f"{head}:series", f"{head}:log", f"{head}:state", f"{head}:held")


def totals_and_series(namespace: str, number: int, name: str) -> tuple[str, str]:
    """Return these two keys of `metric`, which a page reads for many metrics."""
    head = f"rm:{{{namespace}:{number}}}:{name}"
    return f"{head}:live", f"{head}:series"


def rollup(namespace: str, number: int, name: str) -> RollupKeys:
    head = f"rm:{{{namespace}:{number}}}:{name}"
    return RollupKeys(f"{head}:state", f"{head}:due", f"{head}:held", f"{head}:touched")


def state(namespace: str, number: int, name: str) -> str:
    """Return this key of `rollup` alone."""
    return f"rm:{{{namespace}:{number}}}:{name}:state"


def exemplars(namespace: str, number: int, name: str) -> str:
    return f"rm:{{{namespace}:{number}}}:{name}:exemplars"


def series_and_bucket(field: bytes) -> tuple[int, int]:
    """Return the series id and the bucket of a field of `exemplars`.

    Raises:
        ValueError: If *field* has another form.
    """
    series, bucket = field.split(b" ")
    return int(series), int(bucket)


def data(namespace: str, number: int, name: str, resolution: str, partition_ms: int) -> str:
    """Return the key of the partition of *resolution* that starts at *partition_ms*."""
    return f"rm:{{{namespace}:{number}}}:{name}:{resolution}:{partition_ms // 1000}"


def data_name(resolution: str, partition_ms: int) -> str:
    """Return the name of a partition in `held` and `touched`."""
    return f"{resolution} {partition_ms // 1000}"


# Many metrics have partitions of the same time.
@lru_cache(10_000)
def parse_data_name(name: bytes) -> tuple[str, int]:
    """Return the resolution (or ``samples``) and the partition's start in ms of a field of `held`.

    Raises:
        ValueError: If *name* has another form.
    """
    resolution, start_s = name.decode().split(" ")
    return resolution, int(start_s) * 1000


def cell_field(slot_ms: int, chunk: int) -> str:
    return f"{slot_ms // 1000}/{chunk}"


def segment_field(chunk: int) -> str:
    return f"segment/{chunk}"


def pending(namespace: str, number: int) -> str:
    return f"rm:{{{namespace}:{number}}}:pending"


class AlertKeys(NamedTuple):
    """Keys of alerts, in the order of alerts.lua's KEYS after the group's own."""

    leases: str
    groups: str
    history: str
    silences: str
    sent: str


def alerts(namespace: str) -> AlertKeys:
    head = f"rm:{{{namespace}:alerts}}"
    return AlertKeys(
        f"{head}:leases",
        f"{head}:groups",
        f"{head}:history",
        f"{head}:silences",
        f"{head}:sent",
    )


def alert_group(namespace: str, group: str) -> str:
    return f"rm:{{{namespace}:alerts}}:group:{group}"


def workers(namespace: str) -> str:
    return f"rm:{namespace}:workers"


def copying(namespace: str) -> str:
    return f"rm:{namespace}:copying"


def copier(namespace: str) -> str:
    return f"rm:{namespace}:copier"


def archive_leases(namespace: str) -> str:
    return f"rm:{namespace}:archive"


def push_leases(namespace: str) -> str:
    return f"rm:{namespace}:push"


def request(namespace: str, digest: str) -> str:
    return f"rm:{namespace}:request:{digest}"


def requests(namespace: str) -> str:
    return f"rm:{namespace}:requests"


def marks(namespace: str) -> str:
    return f"rm:{namespace}:marks"


def channel(namespace: str, metric: str, database: int = 0) -> str:
    """Return the channel of a metric in the database with this number."""
    # No metric has an @ in its name.
    return f"rm:{namespace}:stream:{f'@{database}:' if database else ''}{metric}"


def channel_pattern(namespace: str) -> str:
    """Return the glob for the channels of all metrics, in all databases."""
    return f"rm:{namespace}:stream:*"


def metric_of_channel(namespace: str, name: str, database: int = 0) -> str | None:
    """Return the metric of a channel; None if the channel belongs to another database."""
    head = channel(namespace, "", database)
    metric = name.removeprefix(head)
    return None if not name.startswith(head) or metric.startswith("@") else metric
