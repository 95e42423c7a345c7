"""Totals and buckets: what several clients recorded, as the readers of the page see it."""

import math
import random
import time
from collections import Counter as Tally
from collections.abc import Callable

import pytest

from redismetrics import Gauge, Histogram, Metrics
from redismetrics.export import export
from tests.export.pages import UNITLESS, Page, at, both_formats, histogram_of, page
from tests.fixtures.clients import MakeMetrics
from tests.fixtures.exposition import (
    read,
)
from tests.fixtures.servers import Server, wait_until


@both_formats
def test_the_page_has_the_exact_totals_of_two_clients(
    metrics: Metrics, other: Metrics, openmetrics: bool
) -> None:
    generator = random.Random(7)
    bounds, began = (0.25, 0.5, 0.75), time.time() - 3_600
    jobs: Tally[str] = Tally()
    depth: dict[str, float] = {}
    took: dict[str, list[float]] = {"mail": [], "audio": []}
    for client in (metrics, other):
        client.declare(
            "run_seconds", "histogram", unit="seconds", help="How long it took", buckets=bounds
        )
    for number in range(1_000):
        client, queue = (metrics, other)[number % 2], generator.choice(["mail", "audio"])
        amount, value = (
            generator.randrange(5),
            generator.randrange(65) / 64,
        )  # sums of these are exact
        client.increment("jobs_completed", amount, tags={"queue": queue})
        client.gauge("queue_depth", value - 0.5, tags={"queue": queue}, timestamp=began + number)
        client.histogram("run_seconds", value, tags={"queue": queue})
        jobs[queue] += amount
        depth[queue] = value - 0.5
        took[queue].append(value)
        if generator.random() < 0.05:
            client.flush()
    metrics.flush()
    other.flush()

    expected: Page = {
        at("jobs_completed_total", queue=queue): float(total) for queue, total in jobs.items()
    }
    expected |= {at("queue_depth", queue=queue): value for queue, value in depth.items()}
    for queue, values in took.items():
        expected |= histogram_of("run_seconds", values, bounds, queue=queue)
    assert page(metrics, openmetrics=openmetrics) == expected
    assert page(other, openmetrics=openmetrics) == expected
    families = read(export(metrics=other, openmetrics=openmetrics), openmetrics)
    assert {name: (family.type, family.documentation) for name, family in families.items()} == {
        "jobs_completed": ("counter", "Jobs completed"),
        "queue_depth": ("gauge", "Queue depth"),
        "run_seconds": ("histogram", "How long it took"),
    }
    assert families["run_seconds"].unit == ("seconds" if openmetrics else "")


def test_a_client_sends_before_its_own_page(metrics: Metrics, other: Metrics) -> None:
    metrics.increment("jobs", 3)
    assert page(other) == {}
    assert page(metrics) == {at("jobs_total"): 3}


def test_an_amount_too_small_for_the_total_adds_up(metrics: Metrics) -> None:
    metrics.increment("bytes", 2.0**53)
    for _ in range(3):
        metrics.flush()
        metrics.increment("bytes", 1)
    assert page(metrics) == {at("bytes_total"): 2.0**53 + 4}  # 3 more is no float: the nearest one


def test_a_gauge_shows_the_newest_value_and_changes_add_up(
    metrics: Metrics, other: Metrics
) -> None:
    now = time.time()
    metrics.gauge("temperature", 20.5, timestamp=now - 10)
    metrics.flush()
    other.gauge("temperature", 19.5, timestamp=now - 20)  # late
    for client in (metrics, other):
        Gauge("active", metrics=client).add(3)
        Gauge("active", metrics=client).add(-1)
        client.flush()
    assert page(metrics) == {at("temperature"): 20.5, at("active"): 4}


def test_counters_and_histograms_never_go_down(make_metrics: MakeMetrics) -> None:
    """Over flushes, clients that end, clients that begin, and samples of all ages."""
    generator = random.Random(11)
    clients = [make_metrics(), make_metrics()]
    jobs: Tally[str] = Tally()
    took: list[float] = []
    before: Page = {}
    for step in range(60):
        place = generator.randrange(2)
        for _ in range(generator.randrange(40)):
            name, value = generator.choice("abc"), generator.randrange(1, 200) / 2
            when = None if generator.random() < 0.7 else time.time() - generator.randrange(80_000)
            clients[place].increment("jobs", value, tags={"name": name}, timestamp=when)
            clients[place].histogram("took", value, timestamp=when)
            jobs[name] += value  # type: ignore[assignment]
            took.append(value)
        if generator.random() < 0.3:
            clients[place].close()
            clients[place] = make_metrics()
        else:
            clients[place].flush()
        if step % 6 == 0:
            now = page(make_metrics())
            assert all(now[sample] >= value for sample, value in before.items())
            before = now
    expected: Page = {at("jobs_total", name=name): total for name, total in jobs.items()}
    assert page(make_metrics()) == expected | histogram_of("took", took, UNITLESS)


@pytest.mark.slow
def test_idle_series_leave_the_page_and_return_with_their_totals(
    make_metrics: MakeMetrics,
) -> None:
    metrics, reader = make_metrics(), make_metrics(series_idle=1)
    metrics.declare("took", "histogram", buckets=(1, 2))
    metrics.increment("jobs", 2**40, tags={"queue": "mail"})
    metrics.histogram("took", 1.5)
    metrics.gauge("depth", 7)
    metrics.increment("jobs.done", 5)  # of two names that collide the first, and idle
    metrics.flush()
    everything = page(metrics)
    assert len(everything) == 1 + 5 + 1 + 1
    kept = at("jobs_total", queue="audio")

    def shown() -> Page:
        metrics.increment("jobs", tags={"queue": "audio"})
        metrics.increment("jobs_done")
        metrics.flush()
        return page(reader)

    wait_until(
        lambda: shown().keys() == {kept, at("jobs_done_2_total")},
        "the idle series have left, and only they",
    )
    assert all(
        value == page(metrics)[sample] for sample, value in everything.items()
    )  # of a client that waits longer

    metrics.increment("jobs", 3, tags={"queue": "mail"})
    metrics.histogram("took", 0.5)
    metrics.increment("jobs.done", 0)
    Gauge("depth", metrics=metrics).add(1)
    metrics.flush()
    back = page(reader)
    assert back[at("jobs_total", queue="mail")] == 2**40 + 3
    assert back[at("jobs_done_total")] == 5
    assert back[at("depth")] == 8
    assert {
        sample: value for sample, value in back.items() if sample[0].startswith("took")
    } == histogram_of("took", [1.5, 0.5], (1, 2))


@both_formats
def test_buckets_are_exact_whatever_is_compressed(
    make_metrics: MakeMetrics, openmetrics: bool
) -> None:
    generator = random.Random(3)
    metrics = make_metrics(samples_per_flush=20)
    # 1/64 steps, so that sums are exact; around every bound, and mostly where there are many
    values = [
        generator.choice((1, 50, 1_000, 20_000, 200_000)) * generator.randrange(64) / 64
        for _ in range(10_000)
    ]
    handle = Histogram("took", {"queue": "mail"}, metrics=metrics)
    for number, value in enumerate(values, 1):
        handle.record(value)
        if number % 2_500 == 0:
            metrics.flush()
    rows = metrics.query("took")
    assert len(rows) < 400  # compacted indeed
    assert page(metrics, openmetrics=openmetrics) == histogram_of(
        "took", values, UNITLESS, queue="mail"
    )


@pytest.mark.parametrize("unit", ["", "seconds", "milliseconds"])
def test_a_bound_is_inclusive(make_metrics: MakeMetrics, unit: str) -> None:
    metrics = make_metrics(samples_per_flush=20)
    metrics.declare("took", "histogram", unit=unit)
    metrics.histogram("took", 0)
    bounds = sorted(buckets_of(metrics))
    assert len(bounds) > 10
    values = [0.0]
    for bound in bounds[:-1]:
        values += [bound, math.nextafter(bound, 0), math.nextafter(bound, math.inf), -bound]
    for value in values[1:]:
        metrics.histogram("took", value)
    assert buckets_of(metrics) == {
        bound: sum(value <= bound for value in values) for bound in bounds
    }


def buckets_of(metrics: Metrics) -> dict[float, float]:
    """The buckets of histogram `took`, by bound."""
    return {
        float(dict(labels)["le"]): value
        for (name, labels), value in page(metrics).items()
        if name == "took_bucket"
    }


def test_the_first_declared_buckets_hold_for_all(make_metrics: MakeMetrics) -> None:
    metrics, late = make_metrics(), make_metrics()
    metrics.declare("took", "histogram", buckets=(1, 2))
    metrics.histogram("took", 1)
    metrics.flush()
    late.histogram("took", 2)  # with the default ones, before it learns better
    late.histogram("took", 3)
    late.flush()
    assert page(late) == histogram_of("took", [1, 2, 3], (1, 2))


def test_buckets_declared_elsewhere_are_exact_from_the_first_flush(
    metrics: Metrics, other: Metrics
) -> None:
    values = [number / 8 for number in range(500)]  # more than a flush keeps one by one
    metrics.declare("took", "histogram", buckets=(0.1, 1, 10))
    metrics.histogram("took", values[0])
    metrics.flush()
    for value in values[1:]:
        other.histogram("took", value)
    other.flush()
    assert page(metrics) == histogram_of("took", values, (0.1, 1, 10))


def test_after_a_loss_of_data_samples_go_to_their_own_series(
    fresh_server: Callable[..., Server], make_metrics: MakeMetrics
) -> None:
    server = fresh_server()
    metrics, other = make_metrics(server.url), make_metrics(server.url)
    metrics.increment("jobs", 1, tags={"queue": "mail"})
    metrics.flush()
    server.stop()
    server.forget()
    server.restart()
    other.increment("jobs", 10, tags={"queue": "audio"})
    other.flush()
    metrics.increment("jobs", 100, tags={"queue": "mail"})
    metrics.flush()
    assert page(other) == {at("jobs_total", queue="mail"): 100, at("jobs_total", queue="audio"): 10}
