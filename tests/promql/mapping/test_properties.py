"""PromQL and `query` give the same answers about random recordings."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redismetrics import Metrics
from tests.fixtures.clients import NEVER
from tests.fixtures.queries import BASE
from tests.fixtures.workers import new_worker, pull_forward

pytest.importorskip("promql_parser", reason="needs redismetrics[promql]")

HOURS = 3
# Seconds since BASE, a whole hour; a queue; a value.
SAMPLES = st.lists(
    st.tuples(
        st.floats(0, 3600 * HOURS, exclude_max=True).map(lambda at: round(at, 3)),
        st.sampled_from("ab"),
        st.floats(-3, 3).map(lambda power: round(10**power, 3)),
    ),
    min_size=1,
    max_size=60,
)

_numbers = itertools.count()


@contextmanager
def client(url: str, namespace: str) -> Iterator[Metrics]:
    # Each example has a namespace of its own.
    with Metrics(url, namespace=f"{namespace}-{next(_numbers)}", flush_interval=NEVER) as metrics:
        yield metrics


def seal(url: str, namespace: str, admin: Any) -> None:
    """Let a worker move what was recorded so far into sealed minutes."""
    worker = new_worker(url, namespace)
    try:
        worker.pass_once(alone=True)
        pull_forward(admin, namespace)
        worker.pass_once(alone=True)
    finally:
        worker.leave()
        worker.store.close()


@pytest.mark.slow
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(parts=st.lists(SAMPLES, min_size=1, max_size=2), sealed=st.booleans())
def test_increases_and_quantiles_of_whole_hours_equal_the_queries(
    url: str,
    namespace: str,
    admin: Any,
    parts: list[list[tuple[float, str, float]]],
    sealed: bool,
) -> None:
    with client(url, namespace) as metrics:
        for number, samples in enumerate(parts):
            if number and sealed:
                seal(url, metrics.settings.namespace, admin)
            for at, queue, value in samples:
                tags = {"queue": queue}
                metrics.increment("jobs", value, tags=tags, timestamp=BASE + at)
                metrics.histogram("took", value, tags=tags, timestamp=BASE + at)
            metrics.flush()
        for first, last in itertools.combinations(range(HOURS + 1), 2):
            window, span = (BASE + 3600 * first, BASE + 3600 * last), f"[{last - first}h]"
            rows = metrics.query("jobs", aggregation="sum", group_by="queue", window=window)
            # A series without samples in the window has no row in a query, but an increase of 0.
            increases = {
                row["labels"]["queue"]: row["value"]
                for row in metrics.promql_query(f"increase(jobs_total{span})", at=window[1])
                if row["value"]
            }
            assert increases == pytest.approx({row["queue"]: row["sum"] for row in rows}, rel=1e-12)
            quantiles = {
                row["labels"]["queue"]: row["value"]
                for row in metrics.promql_query(
                    f"histogram_quantile(0.9, increase(took{span}))", at=window[1]
                )
            }
            rows = metrics.query("took", aggregation="p90", group_by="queue", window=window)
            known = {row["queue"]: row["p90"] for row in rows}
            assert {queue: quantiles[queue] for queue in known} == pytest.approx(known, rel=1e-9)
