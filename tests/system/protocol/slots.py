"""Slots and retention, in ticks: short, so that random runs reach every edge."""

# Resolution, slot, chunk.
Cell = tuple[str, int, int]
# Resolution, and start of the partition.
Key = tuple[str, int]

MINUTE, HOUR, DAY, SPAN = 4, 16, 48, 96
WIDTH = {"raw": MINUTE, "minute": MINUTE, "hour": HOUR, "day": DAY, "span": SPAN}
FINER = {"hour": "minute", "day": "hour", "span": "day"}
# A key holds the slots inside one slot of this resolution: its partition.
COARSER = {"raw": "hour", "minute": "hour", "hour": "day", "day": "span"}
# Ticks after the end of a key's partition.
RETENTION = {"raw": 2 * HOUR, "minute": 3 * DAY, "hour": 3 * DAY, "day": 4 * DAY}
# Limits of a sample's time when it is recorded.
MAX_AGE, MAX_FUTURE = DAY, MINUTE
# Age at which a block is cut from the log.
LOG_AGE = 80
# Sealed blocks stay in the log for this long.
REPLAY = 3
# A key outlives its retention by this much, for readers under way.
MARGIN = 20
# A query that took longer is repeated.
READING = 10
WRITER_KEPT, WRITER_KEPT_TOO_SHORT = MAX_AGE + MAX_FUTURE + 20, 5
# A process that has sent nothing for longer counts as gone; it repeats its values more often.
HEARTBEAT, BEAT = 12, 4

# Series whose rows share a field.
CHUNK_SIZE = 2
# Exact samples that are kept of a series-minute.
BUDGET = 2


def align(time: int, width: int) -> int:
    return time - time % width


def chunk_of(series: int) -> int:
    return series // CHUNK_SIZE


def key_of(cell: Cell) -> Key:
    resolution, slot, _ = cell
    return resolution, align(slot, WIDTH[COARSER[resolution]])


def past(key: Key, time: int) -> bool:
    """Return True if a key is past its retention."""
    resolution, slot = key
    return slot + WIDTH[COARSER[resolution]] + RETENTION[resolution] <= time


def nothing_kept(seen: int, time: int) -> bool:
    """Return True if nothing is kept of a series last recorded at *seen*, margin included."""
    return past(("day", align(seen + MAX_FUTURE, SPAN)), time - MARGIN)
