"""Random recordings by several clients: query results equal those of a plain list."""

import itertools
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redismetrics import Metrics
from redismetrics.model.validation import MetricType

pytestmark = pytest.mark.slow

HOUR, MINUTE_MS = 3600, 60_000
# Samples per series, flush and minute that are kept one by one.
BUDGET = 20
# The clock starts here and moves by steps: at a full hour, so that minutes are crossed, and in the
# past, because samples ahead of the server's time are refused.
BASE_MS = round((time.time() // HOUR * HOUR - 3 * HOUR) * 1000)
CLIENTS = 2

_names = itertools.count(1)


@dataclass(frozen=True)
class Entry:
    """One recorded value in the oracle's list. *plain*: without explicit time or metadata."""

    time_ms: int
    flush: int
    order: int
    value: float
    tags: tuple[tuple[str, str], ...]
    plain: bool


class Clock:
    """A clock that the test moves. Clients read it in Unix seconds."""

    def __init__(self) -> None:
        self.ms = BASE_MS

    def __call__(self) -> float:
        return self.ms / 1000 + 1e-5  # as a float a whole millisecond may be just below itself


clock = Clock()


@pytest.fixture(scope="module")
def clients(request: pytest.FixtureRequest) -> Iterator[list[Metrics]]:
    """Clients as in several processes. They flush only on request."""
    server = request.getfixturevalue("server")
    made = [
        Metrics(
            server.url,
            namespace="oracle",
            samples_per_flush=BUDGET,
            clock=clock,
            flush_interval=24 * HOUR,
        )
        for _ in range(CLIENTS)
    ]
    yield made
    for metrics in made:
        metrics.close()


# -- what is recorded ---------------------------------------------------------------------------

AMOUNTS = st.sampled_from([0.0, 1.0, 1.0, 2.0, 5.0, 0.1, 1e15]) | st.floats(0, 1e6)
VALUES = st.sampled_from([0.0, 1.0, -1.0, 0.1, 1e9]) | st.floats(-1e6, 1e6)
TAGS = st.fixed_dictionaries({}, optional={"a": st.sampled_from(["x", "y"]), "b": st.just("1")})
OWN_TIMES = (
    st.none()
    | st.integers(-90, 90).map(lambda seconds: BASE_MS + seconds * 1000)
    | st.just(BASE_MS + 59_999)
)


@dataclass(frozen=True)
class Step:
    """What one client does: flush, or record values, each some ms after the last one."""

    client: int
    flush: bool
    values: tuple[float, ...]
    tags: dict[str, str]
    time_ms: int | None
    metadata: bool
    step_ms: int


def steps(values: st.SearchStrategy[float], longest: int) -> st.SearchStrategy[list[Step]]:
    some = st.lists(values, min_size=1, max_size=3)
    burst = st.tuples(values, st.integers(BUDGET, longest)).map(
        lambda seed: [seed[0] + at for at in range(seed[1])]
    )
    step = st.builds(
        Step,
        client=st.integers(0, CLIENTS - 1),
        flush=st.sampled_from([False, False, True]),
        values=(some | some | burst if longest > BUDGET else some).map(tuple),
        tags=TAGS,
        time_ms=OWN_TIMES,
        metadata=st.sampled_from([False, False, True]),
        step_ms=st.sampled_from([0, 1, 250, 20_000]),
    )
    return st.lists(step, min_size=1, max_size=12)


def play(clients: list[Metrics], name: str, kind: MetricType, script: list[Step]) -> list[Entry]:
    """Record everything, flush, and return the oracle's list."""
    clock.ms = BASE_MS
    done: list[Entry] = []
    waiting: list[list[Entry]] = [[] for _ in clients]
    flushes = 0

    def flush(at: int) -> None:
        nonlocal flushes
        flushes += 1
        clients[at].flush()
        for entry in waiting[at]:  # counters get their time when flushed
            stamped = clock.ms if kind == "counter" and entry.plain else entry.time_ms
            done.append(Entry(stamped, flushes, entry.order, entry.value, entry.tags, entry.plain))
        waiting[at].clear()

    order = 0
    for step in script:
        if step.flush:
            flush(step.client)
            clock.ms += step.step_ms
            continue
        for value in step.values:
            time_ms = clock.ms if step.time_ms is None else step.time_ms
            metadata = {"n": order} if step.metadata else None
            clients[step.client].record(
                name,
                value,
                type=kind,
                tags=step.tags,
                metadata=metadata,
                timestamp=None if step.time_ms is None else step.time_ms / 1000,
            )
            order += 1
            plain = step.time_ms is None and metadata is None
            waiting[step.client].append(
                Entry(time_ms, 0, order, value, tuple(sorted(step.tags.items())), plain)
            )
            clock.ms += step.step_ms
    for at in range(len(clients)):
        flush(at)
    return done


# -- the oracle ---------------------------------------------------------------------------------


def possible_last(entries: list[Entry], kind: str) -> set[float]:
    """The values of the newest time, of these those of the latest flush.

    Within one flush the order is kept for one series, where all were recorded in the same way.
    """
    newest = max((entry.time_ms, entry.flush) for entry in entries)
    ties = [entry for entry in entries if (entry.time_ms, entry.flush) == newest]
    if (
        kind != "counter"
        and all(entry.plain for entry in ties)
        and len({entry.tags for entry in ties}) == 1
    ):
        return {max(ties, key=lambda entry: entry.order).value}
    return {entry.value for entry in ties}


def check(found: dict[str, Any], entries: list[Entry], kind: str) -> None:
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
    # A tolerance beyond 1e-9: the mean is a float, so a deviation is as close as its last digits;
    # and 1e-160 has no square.
    assert found["stddev"] == pytest.approx(
        statistics.pstdev(values), rel=1e-9, abs=max(1e-13 * largest, 1e-150)
    )


AGGREGATIONS = ("count", "min", "max", "last", "sum", "mean", "stddev")
GROUPINGS: tuple[tuple[str, ...], ...] = ((), ("a",), ("a", "b"), ("b", "nobody"))


def key_of(entry: Entry, group_by: tuple[str, ...]) -> tuple[str | None, ...]:
    return tuple(dict(entry.tags).get(key) for key in group_by)


def check_rollup(
    metrics: Metrics,
    name: str,
    kind: str,
    entries: list[Entry],
    window: Any,
    group_by: tuple[str, ...],
) -> None:
    found = metrics.rollup(
        name, group_by=group_by, aggregations=AGGREGATIONS, window=window, keys="tuple"
    )
    keys = {key_of(entry, group_by) for entry in entries}
    assert list(found) == sorted(
        keys, key=lambda key: [(part is not None, part or "") for part in key]
    )
    for key, row in found.items():
        check(row, [entry for entry in entries if key_of(entry, group_by) == key], kind)


def check_series(
    metrics: Metrics,
    name: str,
    kind: str,
    entries: list[Entry],
    window: Any,
    group_by: tuple[str, ...],
    width_ms: int,
) -> None:
    found = metrics.time_series(
        name, interval=f"{width_ms}ms", aggregations=AGGREGATIONS, window=window, group_by=group_by
    )
    cells = {(entry.time_ms // width_ms * width_ms, key_of(entry, group_by)) for entry in entries}
    places = [
        (round(row["timestamp"].timestamp() * 1000), tuple(row[key] for key in group_by))
        for row in found
    ]
    assert places == sorted(
        cells, key=lambda cell: (cell[0], [(part is not None, part or "") for part in cell[1]])
    )
    for (start, key), row in zip(places, found, strict=True):
        inside = [
            e
            for e in entries
            if start <= e.time_ms < start + width_ms and key_of(e, group_by) == key
        ]
        check(row, inside, kind)


# -- the properties -----------------------------------------------------------------------------

KINDS: dict[MetricType, Any] = {"counter": AMOUNTS, "gauge": VALUES, "histogram": VALUES}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100)
@given(data=st.data())
def test_results_equal_a_plain_list_also_after_compression(
    clients: list[Metrics], kind: MetricType, data: st.DataObject
) -> None:
    name = f"m{next(_names)}"
    entries = play(clients, name, kind, data.draw(steps(KINDS[kind], 45)))
    asking = clients[data.draw(st.integers(0, CLIENTS - 1))]
    group_by = data.draw(st.sampled_from(GROUPINGS))

    # Compressed samples have the time of the newest one and never cross a minute. So windows and
    # intervals of whole minutes are exact.
    minutes = st.none() | st.integers(-2, 8).map(
        lambda minute: (BASE_MS + minute * MINUTE_MS) / 1000
    )
    for window in (None, (data.draw(minutes), data.draw(minutes))):
        since, until = (None, None) if window is None else window
        inside = [
            entry
            for entry in entries
            if (since is None or entry.time_ms >= since * 1000)
            and (until is None or entry.time_ms < until * 1000)
        ]
        check_rollup(asking, name, kind, inside, window, group_by)
        check_series(
            asking,
            name,
            kind,
            inside,
            window,
            group_by,
            data.draw(st.sampled_from([1, 2, 60])) * MINUTE_MS,
        )

    expected = dict(data.draw(TAGS))
    chosen = [
        entry
        for entry in entries
        if all(dict(entry.tags).get(key) == value for key, value in expected.items())
    ]
    assert asking.query(name, aggregation="count", tags=expected) == len(chosen)

    live = [series for family in asking.live(name) for series in family.series]
    assert len(live) == len({entry.tags for entry in entries})
    for series in live:
        of_series = [entry for entry in entries if dict(entry.tags) == series.tags]
        values = [entry.value for entry in of_series]
        if kind == "gauge":
            assert series.value in possible_last(of_series, kind)
        else:
            assert series.value == pytest.approx(
                math.fsum(values), rel=0, abs=1e-12 * math.fsum(map(abs, values))
            )
            assert kind == "counter" or series.count == len(values)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100)
@given(data=st.data())
def test_kept_samples_are_exact_to_the_millisecond_and_the_percentile(
    clients: list[Metrics], kind: MetricType, data: st.DataObject
) -> None:
    name = f"m{next(_names)}"
    script = data.draw(
        steps(KINDS[kind], 0).map(lambda script: script[:6])
    )  # at most 18 values: never compressed
    entries = play(clients, name, kind, script)
    times = sorted({entry.time_ms for entry in entries})
    edges = st.sampled_from([None, *times, *(ms + 1 for ms in times), *(ms - 1 for ms in times)])
    since, until = data.draw(edges), data.draw(edges)
    window = (None if since is None else since / 1000, None if until is None else until / 1000)
    inside = [
        entry
        for entry in entries
        if (since is None or entry.time_ms >= since) and (until is None or entry.time_ms < until)
    ]
    asking = clients[data.draw(st.integers(0, CLIENTS - 1))]
    group_by = data.draw(st.sampled_from(GROUPINGS))
    check_rollup(asking, name, kind, inside, window, group_by)
    check_series(
        asking,
        name,
        kind,
        inside,
        window,
        group_by,
        data.draw(st.sampled_from([1000, 7000, 90_000])),
    )

    values = [entry.value for entry in inside]
    for p in (0, 5, 50, 99, 100):
        found = asking.query(name, aggregation=f"p{p}", window=window)
        if values:
            assert found == pytest.approx(
                np.percentile(values, p), rel=1e-12, abs=1e-13 * max(map(abs, values))
            )
        else:
            assert found is None
    listed = asking.get_metrics(name=name, since=window[0], until=window[1])["metrics"]
    assert sorted((row["value"], tuple(sorted(row["tags"].items()))) for row in listed) == sorted(
        (entry.value, entry.tags) for entry in inside
    )
    assert [row["timestamp"] for row in listed] == sorted(
        (row["timestamp"] for row in listed), reverse=True
    )
