"""One metric in Redis and the plain list of everything recorded of it, for the tests of sealing.

The list is evaluated with loops, `math.fsum` and `statistics`, never by the code under test.
"""

import itertools
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import redis

from redismetrics import Metrics
from redismetrics.model.retention import RetentionPolicy
from redismetrics.model.sample import Sample
from redismetrics.model.time import DAY, HOUR, MINUTE
from redismetrics.model.validation import MetricType
from redismetrics.queries.cache import Cache
from redismetrics.queries.context import QueryContext
from redismetrics.queries.evaluate import evaluate, rollup
from redismetrics.queries.query import Query, SamplesQuery
from redismetrics.queries.samples import newest_samples
from redismetrics.queries.time_series import time_series
from redismetrics.recording import write
from redismetrics.recording.write import WriteRequest
from redismetrics.store import deletion, keys, replies
from redismetrics.store.driver import Operation, run
from redismetrics.store.due_slot import PARTITION, DueSlot
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.store.namespace import Namespace, open_namespace
from redismetrics.store.record_state import RecordState
from redismetrics.worker import downsample
from redismetrics.worker import due as due_module
from redismetrics.worker.commit import Outcome, Result
from redismetrics.worker.due import merges_due
from redismetrics.worker.limits import WorkerLimits
from redismetrics.worker.seal import seal

# Samples per series, flush and minute that a client keeps one by one.
BUDGET = 20
# Samples per series and minute that a worker keeps one by one in these tests.
FEW = 8
# Series that share a field in these tests.
CHUNK = 2
LIMITS = WorkerLimits(blocks_at_once=3, cells_per_commit=5, samples_per_minute=FEW)
AGGREGATIONS = ("count", "min", "max", "last", "sum", "mean", "stddev")
GROUPINGS: tuple[tuple[str, ...], ...] = ((), ("a",), ("b", "a"), ("nowhere",))

Tags = tuple[tuple[str, str], ...]
Window = tuple[int | None, int | None]  # in ms
Answer = dict[str, Any]

_names = itertools.count(1)


@dataclass(frozen=True)
class Entry:
    """One recorded value. *flush* numbers the batches in order of arrival, *order* the recordings.

    *plain*: without a time of its own or metadata, which here is its *order*.
    """

    time_ms: int
    flush: int
    order: int
    value: float
    tags: Tags
    plain: bool
    metadata: bool


class Clock:
    """A clock for the clients that the test moves."""

    def __init__(self, ms: int) -> None:
        self.ms = ms

    def __call__(self) -> float:
        return self.ms / 1000 + 1e-5  # as a float a whole millisecond may be just below itself


# -- comparison ------------------------------------------------------------------------------------


def possible_last(entries: list[Entry], kind: str) -> set[float]:
    """Return the values that may be the last one: of the newest time, from the latest batches.

    Within a batch the order is kept for each series whose samples were recorded in the same way.
    """
    newest = max(entry.time_ms for entry in entries)
    found: set[float] = set()
    for tags in {entry.tags for entry in entries}:
        ties = [entry for entry in entries if entry.tags == tags and entry.time_ms == newest]
        latest = [entry for entry in ties if entry.flush == max(tie.flush for tie in ties)]
        if latest and kind != "counter" and len({entry.plain for entry in latest}) == 1:
            latest = [max(latest, key=lambda entry: entry.order)]
        found |= {entry.value for entry in latest}
    return found


def check_group(found: Answer, entries: list[Entry], kind: str) -> None:
    """Compare the aggregations of one group with a plain list of its entries."""
    values = [entry.value for entry in entries]
    size, largest = math.fsum(map(abs, values)), max(map(abs, values))
    assert found["count"] == len(values)
    assert (found["min"], found["max"]) == (min(values), max(values))
    assert found["last"] in possible_last(entries, kind)
    assert found["sum"] == pytest.approx(math.fsum(values), rel=0, abs=1e-12 * size)
    assert found["mean"] == pytest.approx(
        math.fsum(values) / len(values), rel=0, abs=1e-12 * size / len(values)
    )
    # A rollup keeps seven digits.
    assert found["stddev"] == pytest.approx(
        statistics.pstdev(values), rel=1e-6, abs=max(1e-7 * largest, 1e-150)
    )


def percentile(values: list[float], p: float) -> float:
    """Interpolate linearly at rank p(n-1), numpy's default, without numpy."""
    ordered = sorted(values)
    rank = p / 100 * (len(ordered) - 1)
    below = min(int(rank), len(ordered) - 2) if len(ordered) > 1 else 0
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def by_group(
    entries: Iterable[Entry], group_by: tuple[str, ...]
) -> dict[tuple[str | None, ...], list[Entry]]:
    groups: dict[tuple[str | None, ...], list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[tuple(dict(entry.tags).get(key) for key in group_by)].append(entry)
    return dict(groups)


def seconds(window: Window | None) -> Any:
    return (
        None if window is None else tuple(None if edge is None else edge / 1000 for edge in window)
    )


# -- Redis ----------------------------------------------------------------------------------


@dataclass(repr=False)
class Stage:
    """A namespace with recording clients, and one client that works and queries."""

    namespace: str
    retention: RetentionPolicy
    clock: Callable[[], float]
    clients: list[Metrics]
    redis: redis.Redis
    batches: list[WriteRequest] = field(default_factory=list)
    twice: bool = False  # resend each batch, as after a lost reply


@contextmanager
def stage(
    url: str, namespace: str, clock: Callable[[], float], clients: int, retention: RetentionPolicy
) -> Iterator[Stage]:
    """Yield clients as in several processes, which flush only on request.

    The namespace has these retentions; clients refuse only what these make them refuse. Few series
    share a chunk, and few blocks a commit.
    """
    age = 1000 * 86_400.0
    kept: Any = dict.fromkeys(("minute_retention", "hour_retention", "day_retention"), 2 * age)
    options: Any = {
        "samples_per_flush": BUDGET,
        "clock": clock,
        "flush_interval": 2 * age,
        "max_age": age,
        "max_future": 86_400.0,
        "log_age": age,
    }
    made = [Metrics(url, namespace=namespace, **options, **kept) for _ in range(clients)]
    with pytest.MonkeyPatch.context() as patch, made[0]._store.connect(retries=0) as client:
        found = Stage(namespace, retention, clock, made, client)
        original = write.record

        def record(sent: WriteRequest, *others: Any) -> Operation[Any]:
            found.batches.append(sent)
            if found.twice:
                yield from original(sent)
            return (yield from original(sent, *others))

        patch.setattr(write, "record", record)
        patch.setattr(keys, "CHUNK", dict.fromkeys(keys.CHUNK, CHUNK))
        to_merge = merges_due  # which else speaks only of hours, days and months that are not over
        for module in (due_module, downsample):
            patch.setattr(
                module,
                "merges_due",
                lambda resolution, cells, seen, grace_ms: to_merge(
                    resolution, cells, replace(seen, now_ms=0), grace_ms
                ),
            )
        run(client, open_namespace(namespace, retention))
        yield found
        for each in made:
            each.close()


class World:
    """One metric of a stage. Queries run with three caches: a full one, a tiny one, a new one."""

    def __init__(self, stage: Stage, kind: MetricType) -> None:
        self.stage, self.kind = stage, kind
        self.limits = LIMITS
        self.name = f"m{next(_names)}"
        self.metric = MetricLocation(stage.namespace, 0, self.name, stage.retention)
        self.entries: list[Entry] = []
        self.unsealed: dict[
            int, float
        ] = {}  # the batches that are in the log and in no minute, with their clocks
        self.clocks: dict[int, float] = {}  # of all batches
        self.late: list[Entry] = []  # refused at sealing
        self._waiting: list[list[Entry]] = [[] for _ in stage.clients]
        self._order = itertools.count()
        self._flushes = itertools.count(1)
        self._crowded: set[tuple[Tags, int]] = (
            set()
        )  # series and minutes of which the exact samples were given up
        self._rows: dict[tuple[Tags, int], int] = defaultdict(int)
        self.places = {
            "warm": QueryContext(Namespace(stage.namespace), Cache(32 << 20)),
            "narrow": QueryContext(Namespace(stage.namespace), Cache(3_000)),
            "new": QueryContext(Namespace(stage.namespace), Cache(0)),
        }

    def close(self) -> None:
        """Delete everything for the next example."""
        for at in range(len(self.stage.clients)):
            self.flush(at)
        self.run(deletion.delete(self.stage.namespace, 1, [self.name]))
        self.stage.batches.clear()
        self.stage.twice = False

    def run(self, operation: Operation[Any]) -> Any:
        return run(self.stage.redis, operation)

    # -- recording

    def record(
        self,
        at: int,
        value: float,
        tags: dict[str, str],
        time_ms: int | None = None,
        *,
        metadata: bool = False,
    ) -> None:
        order = next(self._order)
        self.stage.clients[at].record(
            self.name,
            value,
            type=self.kind,
            tags=tags,
            metadata={"n": order} if metadata else None,
            timestamp=None if time_ms is None else time_ms / 1000,
        )
        plain = time_ms is None and not metadata
        now_ms = int(self.stage.clock() * 1000)
        when = now_ms if time_ms is None else time_ms
        self._waiting[at].append(
            Entry(when, 0, order, value, tuple(sorted(tags.items())), plain, metadata)
        )

    def flush(self, at: int) -> None:
        waiting = self._waiting[at]
        if not waiting:
            return
        self.stage.clients[at].flush()
        number, now_ms = next(self._flushes), int(self.stage.clock() * 1000)
        for entry in waiting:  # counters get their time when flushed
            stamped = now_ms if self.kind == "counter" and entry.plain else entry.time_ms
            self.entries.append(replace(entry, time_ms=stamped, flush=number))
        (_, clock) = self.stage.redis.execute_command(
            "ZRANGE", self.metric.recorded.log, -1, -1, "WITHSCORES"
        )
        self.clocks[number] = self.unsealed[number] = float(clock)
        waiting.clear()

    def waiting(self, at: int) -> int:
        return len(self._waiting[at])

    def again(self, number: int) -> None:
        """Resend a confirmed batch."""
        if self.stage.batches:
            self.run(write.record(self.stage.batches[number % len(self.stage.batches)]))

    # -- working

    def sealing(self) -> Operation[Result]:
        return seal(self.metric, self.limits)

    def making(self, due: str) -> Operation[Result]:
        return downsample.downsample(self.metric, DueSlot.parse(due), self.limits)

    def seal(self) -> Outcome:
        outcome: Outcome = self.run(self.sealing()).outcome
        self.note_sealed()
        return outcome

    def note_sealed(self) -> None:
        """Read how far the log is sealed."""
        sealed = float(
            self.stage.redis.execute_command("HGET", self.metric.worked.state, "sealed") or 0
        )
        for number in [number for number, clock in self.unsealed.items() if clock <= sealed]:
            del self.unsealed[number]
            of_batch = [entry for entry in self.entries if entry.flush == number]
            now_ms, retention = self.now_ms(), self.stage.retention
            self.late += [
                entry
                for entry in of_batch
                if retention.finest.is_expired(entry.time_ms // HOUR * HOUR, now_ms)
            ]
            for (tags, minute), entries in _by_minute(of_batch).items():
                self._rows[tags, minute] += _rows(entries, self.kind)
                if self._rows[tags, minute] > FEW or retention.raw.is_expired(
                    minute * MINUTE // HOUR * HOUR, now_ms
                ):
                    self._crowded.add((tags, minute))

    def due(self) -> list[str]:
        return sorted(
            each.decode()
            for each in self.stage.redis.execute_command("HKEYS", self.metric.worked.due)
        )

    def make(self, due: str) -> Outcome:
        outcome: Outcome = self.run(self.making(due)).outcome
        return outcome

    def work(self) -> None:
        """Seal everything, then make all slots whatever the time, finer ones first."""
        while self.seal() in (Outcome.MORE, Outcome.DONE):
            pass
        assert not self.unsealed
        for level in ("hour", "day", PARTITION):
            for due in self.due():
                if due.split(" ")[0] == level:
                    assert self.make(due) is Outcome.DONE
        assert self.due() == []

    # -- queries

    def ask(self, question: Callable[[QueryContext], Operation[Any]]) -> Any:
        """Return the result; it must be exactly the same with any state of the cache."""
        self.places["new"] = QueryContext(Namespace(self.stage.namespace), Cache(0))
        answers = {name: self.run(question(place)) for name, place in self.places.items()}
        assert answers["warm"] == answers["narrow"] == answers["new"]
        return answers["new"]

    def is_exact(self, entry: Entry) -> bool:
        """True if the sample is still kept by itself."""
        return (
            entry.flush in self.unsealed
            or (entry.tags, entry.time_ms // MINUTE) not in self._crowded
        )

    def seen_at(
        self, entry: Entry, since: int, until: int, interval: int | None = None
    ) -> int | None:
        """Return the time at which a sample counts in a window, or None."""
        when = entry.time_ms if self.is_exact(entry) else entry.time_ms // MINUTE * MINUTE
        return when if since <= when < until else None

    def judge_rollup(
        self, found: dict[Any, Answer], entries: Iterable[Entry], group_by: tuple[str, ...]
    ) -> None:
        expected = by_group(entries, group_by)
        assert found.keys() == expected.keys()
        for group, inside in expected.items():
            check_group(found[group], inside, self.kind)

    def inside(self, window: Window | None, interval: int | None = None) -> list[tuple[int, Entry]]:
        since, until = window or (None, None)
        seen = [
            (self.seen_at(entry, since or 0, 1 << 60 if until is None else until, interval), entry)
            for entry in self.entries
        ]
        return [(when, entry) for when, entry in seen if when is not None]

    def query(self, **options: Any) -> Any:
        return self.ask(lambda place: evaluate(place, Query(self.name, **options)))

    def rollup(
        self, place: QueryContext, window: Window | None, group_by: tuple[str, ...]
    ) -> Operation[dict[Any, Answer]]:
        options: Any = {
            "group_by": group_by,
            "aggregations": AGGREGATIONS,
            "window": seconds(window),
            "keys": "tuple",
        }
        return rollup(place, Query(self.name, **options))

    def check_rollup(
        self, window: Window | None = None, group_by: tuple[str, ...] = ("a", "b")
    ) -> None:
        found = self.ask(lambda place: self.rollup(place, window, group_by))
        self.judge_rollup(found, (entry for _, entry in self.inside(window)), group_by)

    def check_series(
        self, window: Window | None, interval_ms: int, group_by: tuple[str, ...] = ()
    ) -> None:
        query = Query(
            self.name,
            interval=f"{interval_ms // 1000}s",
            aggregations=AGGREGATIONS,
            window=seconds(window),
            group_by=group_by,
        )
        found = self.ask(lambda place: time_series(place, query))
        expected: dict[tuple[Any, ...], list[Entry]] = defaultdict(list)
        for when, entry in self.inside(window, interval_ms):
            group = tuple(dict(entry.tags).get(key) for key in group_by)
            expected[when // interval_ms * interval_ms / 1000, *group].append(entry)
        rows = {
            (row["timestamp"].timestamp(), *(row[key] for key in group_by)): row for row in found
        }
        assert len(rows) == len(found)
        assert rows.keys() == expected.keys()
        for cell, entries in expected.items():
            check_group(rows[cell], entries, self.kind)

    def check_percentiles(self, window: Window | None = None) -> None:
        """True while no samples are compressed and each digest has only values."""
        values = [entry.value for _, entry in self.inside(window)]
        for p in (0, 5, 50, 99, 100):
            found = self.query(aggregation=f"p{p}", window=seconds(window))
            if values:
                expected = percentile(values, p)
                assert found == pytest.approx(
                    expected, rel=1e-12, abs=1e-13 * max(map(abs, values))
                )
            else:
                assert found is None

    def check_list(self, window: Window | None = None) -> None:
        """Compare samples one by one if kept so, else as points at the start of their minute."""
        found = self.query(window=seconds(window))
        assert [sample.timestamp for sample in found] == sorted(
            sample.timestamp for sample in found
        )
        expected = []
        for when, entry in self.inside(window):
            is_exact, order = self.is_exact(entry), entry.order if entry.metadata else -1
            expected.append(
                (when, entry.tags, entry.value, order if is_exact else -1, not is_exact)
            )
        assert sorted(_told(found)) == sorted(expected)

        def newest_first(limit: int) -> list[Sample]:
            since, until = seconds(window) or (None, None)
            options: Any = {"name": self.name, "since": since, "until": until, "limit": limit}
            answer: list[Sample] = self.ask(
                lambda place: newest_samples(place, SamplesQuery(**options))
            )
            return answer

        newest = newest_first(1000)
        assert [sample.timestamp for sample in newest] == sorted(
            (sample.timestamp for sample in newest), reverse=True
        )
        assert sorted(_told(newest)) == sorted(expected)
        assert all(sample.count == 1 or sample.approximate for sample in newest)
        assert newest_first(3) == newest[:3]

    # -- bookkeeping in Redis

    def check_books(self) -> None:
        """Compare the indexes and counts that workers keep with the data."""
        client, worked = self.stage.redis, self.metric.worked
        if not self.entries:
            return
        due = _pairs(client.execute_command("HGETALL", worked.due))
        pending = _pairs(
            client.execute_command(
                "ZRANGE", keys.pending(self.stage.namespace, 0), 0, -1, "WITHSCORES"
            )
        )
        suffix = f" {self.name}".encode()
        mine = {
            what.removesuffix(suffix): float(when)
            for what, when in pending.items()
            if what.endswith(suffix)
        }
        waiting = {
            what: when
            for what, when in mine.items()
            if what.split(b" ")[0] not in (b"trim", b"sweep")
        }
        assert waiting == {what: float(when) for what, when in due.items()}

        held = _pairs(client.execute_command("HGETALL", worked.held))
        sealed = [entry for entry in self.entries if entry.flush not in self.unsealed]
        levels = {level.name: level for level in self.stage.retention.with_raw}
        now_ms = self.now_ms()
        for each, size in held.items():
            what, span = each.decode().split(" ")
            start = int(span) * 1000
            if levels.get(what, self.stage.retention.raw).is_expired(start, now_ms - HOUR):
                continue
            if what == "samples":
                inside = [
                    entry
                    for entry in sealed
                    if start <= entry.time_ms < start + HOUR and entry not in self.late
                ]
                assert int(size) == len(inside)
                continue
            level, key = levels[what], self.metric.data(what, start)
            assert int(size) == sum(map(len, client.execute_command("HVALS", key)))
            waits = any(_over(field.decode(), level.name, start, level.partition) for field in due)
            left = client.execute_command("PTTL", key)
            # The sources of a due slot must stay; others expire after retention and a margin.
            assert (left == -1) == waits, f"{each!r} expires in {left} ms, while {due} are due"
            if left > 0:
                assert now_ms + left == pytest.approx(
                    start + level.partition + level.retention + HOUR, abs=5_000
                )

        late = client.execute_command("HGET", self.metric.worked.state, "late")
        recorded = client.execute_command(
            "HGET", keys.shard(self.stage.namespace, 0).recorded, self.name
        )
        oldest = RecordState.unpack(recorded).waiting
        assert int(late or 0) == len(self.late)
        if self.unsealed:
            assert (
                client.execute_command(
                    "ZSCORE", keys.shard(self.stage.namespace, 0).dirty, self.name
                )
                is not None
            )
        else:
            assert (
                client.execute_command(
                    "ZSCORE", keys.shard(self.stage.namespace, 0).dirty, self.name
                )
                is None
            )
            assert oldest == 0

    def now_ms(self) -> int:
        return int(replies.read_now_ms(self.stage.redis.execute_command("TIME")))


def _over(due: str, level: str, start: int, span: int) -> bool:
    """True if this coarse slot is made from the slots of the key."""
    above = {"raw": "", "minute": "hour", "hour": "day", "day": PARTITION}[level]
    name, slot_s, _ = due.split(" ")
    return name == above and int(slot_s) * 1000 == start


def _told(samples: list[Sample]) -> list[tuple[int, Tags, float, int, bool]]:
    return [
        (
            round(each.timestamp.timestamp() * 1000),
            tuple(each.tags.items()),
            each.value,
            each.metadata.get("n", -1),
            each.approximate,
        )
        for each in samples
        for _ in range(each.count)
    ]


def _pairs(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _by_minute(entries: list[Entry]) -> dict[tuple[Tags, int], list[Entry]]:
    found: dict[tuple[Tags, int], list[Entry]] = defaultdict(list)
    for entry in entries:
        found[entry.tags, entry.time_ms // MINUTE].append(entry)
    return found


def _rows(entries: list[Entry], kind: str) -> int:
    """Return the number of rows of these samples: equal increments share one."""
    plain = [entry for entry in entries if entry.plain]
    return (
        len(entries)
        - len(plain)
        + len({entry.value for entry in plain} if kind == "counter" else plain)
    )


MIDNIGHT = round(time.time() - 3600) // 86_400 * DAY  # of today or yesterday
