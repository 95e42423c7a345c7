"""Slots between given edges, compared with a plain list of what was recorded."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from redismetrics import Metrics
from redismetrics.columnar.arrays import Ints
from redismetrics.columnar.samples import summarise
from redismetrics.model.definition import Definition
from redismetrics.queries.slots import SeriesSlots, SlotsQuery, read_slots
from tests.fixtures.clients import MakeWorker
from tests.fixtures.queries import BASE
from tests.fixtures.workers import pull_forward

MS, MINUTE = 1000, 60_000
START = int(BASE * MS)


def all_series(_: Definition, series: Mapping[int, Any]) -> tuple[list[Any], Ints]:
    positions = np.full(max(series, default=-1) + 2, -1)
    positions[list(series)] = np.arange(len(series))
    return list(series.values()), positions


def ask(metrics: Metrics, since: int, until: int, edges: list[int] | None, **more: Any) -> Any:
    internals = metrics.internals
    query = SlotsQuery("jobs", all_series, since, until, edges, **more)
    return internals.run(read_slots(internals.query_context, query), flush=True)


def rows(slots: SeriesSlots) -> list[tuple[int, int, float]]:
    """Return begin, end and sum of each row and sample, in order."""
    found = [
        (begin, begin + width, amount)
        for table, width in slots.tables
        for begin, amount in zip(table.slot.tolist(), table.summaries.total.tolist(), strict=True)
    ]
    _, summaries = summarise(slots.samples)
    times, totals = summaries.last_ms.tolist(), summaries.total.tolist()
    return sorted(found + [(at, at + 1, total) for at, total in zip(times, totals, strict=True)])


@pytest.fixture
def jobs(metrics: Metrics, make_worker: MakeWorker, admin: Any, namespace: str) -> dict[int, float]:
    """Amounts by time, ms: one each 20 s of two hours, sealed and downsampled."""
    amounts = {START + 20_000 * number: 1.0 + number % 7 for number in range(360)}
    for time_ms, amount in amounts.items():
        metrics.increment("jobs", amount, timestamp=time_ms / MS)
    metrics.flush()
    worker = make_worker()
    worker.pass_once(alone=True)
    pull_forward(admin, namespace)
    worker.pass_once(alone=True)
    return amounts


def test_slots_without_an_edge_inside_are_read_whole(
    metrics: Metrics, jobs: dict[int, float]
) -> None:
    hour = 60 * MINUTE
    found = rows(ask(metrics, START, START + 2 * hour, [START, START + hour, START + 2 * hour]))
    assert [(begin - START, end - START) for begin, end, _ in found] == [
        (0, hour),
        (hour, 2 * hour),
    ]
    assert math.fsum(amount for *_, amount in found) == math.fsum(jobs.values())


def test_only_the_minute_around_an_edge_is_read_exactly(
    metrics: Metrics, jobs: dict[int, float]
) -> None:
    edge = START + 30 * MINUTE + 25_000
    found = rows(ask(metrics, START, START + 120 * MINUTE, [edge]))
    assert [end - begin for begin, end, _ in found].count(1) == 3
    assert {end - begin for begin, end, _ in found} == {1, MINUTE, 60 * MINUTE}
    before = math.fsum(amount for *_, end, amount in found if end <= edge)
    assert before == math.fsum(amount for at, amount in jobs.items() if at < edge)


def test_every_sample_is_read_where_it_is_held(metrics: Metrics, jobs: dict[int, float]) -> None:
    found = rows(ask(metrics, START, START + 120 * MINUTE, None))
    assert found == [(at, at + 1, amount) for at, amount in jobs.items()]


def test_no_slot_is_finer_than_asked(metrics: Metrics, jobs: dict[int, float]) -> None:
    found = rows(ask(metrics, START, START + 120 * MINUTE, None, finest_ms=MINUTE))
    assert {end - begin for begin, end, _ in found} == {MINUTE}


def test_totals_are_all_that_was_recorded_until_now(
    metrics: Metrics, jobs: dict[int, float]
) -> None:
    metrics.increment("jobs", 5)
    slots = ask(metrics, START, START + MINUTE, [START], with_totals=True)
    assert (slots.totals[:, 1] + slots.totals[:, 2]).tolist() == [math.fsum(jobs.values()) + 5]
    assert math.fsum(amount for *_, amount in rows(slots)) == math.fsum(jobs.values()) + 5
