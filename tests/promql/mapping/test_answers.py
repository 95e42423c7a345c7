"""Series that PromQL sees, compared with queries and with plain lists of what was recorded."""

import math
import random
from typing import Any

import numpy as np
import pytest

from redismetrics import Metrics
from redismetrics.columnar.percentiles import percentiles
from redismetrics.errors import EvaluationFailed
from redismetrics.promql.budget import Budget
from redismetrics.promql.mapping.reads import MappingOptions
from redismetrics.promql.matchers import Matcher
from tests.fixtures.clients import MakeWorker
from tests.fixtures.clusters import Cluster
from tests.fixtures.queries import BASE
from tests.fixtures.workers import pull_forward
from tests.promql.mapping.ask import HOUR, MINUTE, ask, values

START = int(BASE * 1000)
Entry = tuple[int, str, float]


@pytest.fixture(params=["log", "sealed"])
def entries(
    request: Any, metrics: Metrics, make_worker: MakeWorker, admin: Any, namespace: str
) -> list[Entry]:
    """Time in ms, queue and value of what was recorded in two hours, under three names."""
    source = random.Random(3)
    found = []
    metrics.declare("size", "histogram", buckets=[1, 20, 100])
    for _ in range(400):
        at = START + source.randrange(2 * HOUR)
        queue, value = source.choice("abc"), float(source.randrange(1, 500)) / 4
        found.append((at, queue, value))
        tags = {"queue": queue}
        metrics.increment("jobs", value, tags=tags, timestamp=at / 1000)
        metrics.histogram("size", value, tags=tags, timestamp=at / 1000)
    for at, queue, value in sorted(found):
        metrics.gauge("depth", value, tags={"queue": queue}, timestamp=at / 1000)
    metrics.flush()
    if request.param == "sealed":
        worker = make_worker()
        worker.pass_once(alone=True)
        pull_forward(admin, namespace)
        worker.pass_once(alone=True)
    return sorted(found)


def by_queue(entries: list[Entry], after: int, until: int) -> dict[str, list[float]]:
    """Return the values recorded in [after, until), by queue."""
    found: dict[str, list[float]] = {}
    for at, queue, value in entries:
        if after <= at < until:
            found.setdefault(queue, []).append(value)
    return found


@pytest.mark.parametrize(
    ("step", "width"),
    [(HOUR, HOUR), (MINUTE, 5 * MINUTE), (7_001, 10_003), (10 * MINUTE, MINUTE)],
    ids=str,
)
def test_increase_equals_the_amount_recorded_in_the_window(
    metrics: Metrics, entries: list[Entry], step: int, width: int
) -> None:
    count = HOUR // step + 1
    times = {"start": START + HOUR, "step": step, "count": count, "range": width}
    found = values(ask(metrics, "jobs_total", function="increase", **times))
    rates = values(ask(metrics, "jobs_total", function="rate", **times))
    for number in range(count):
        at = START + HOUR + number * step
        wanted = by_queue(entries, at - width, at)
        for queue in "abc":
            key = (("queue", queue),)
            increase = math.fsum(wanted.get(queue, []))
            assert found[key][number] == pytest.approx(increase, abs=1e-9)
            assert rates[key][number] == pytest.approx(increase / width * 1000, abs=1e-9)


def test_increase_of_an_aligned_window_equals_the_query(
    metrics: Metrics, entries: list[Entry]
) -> None:
    for first, last in (0, 1), (1, 2), (0, 2):
        window = BASE + 3600 * first, BASE + 3600 * last
        rows = metrics.query("jobs", aggregation="sum", group_by="queue", window=window)
        width = (last - first) * HOUR
        found = ask(
            metrics, "jobs_total", start=START + last * HOUR, range=width, function="increase"
        )
        assert values(found) == {(("queue", row["queue"]),): [row["sum"]] for row in rows}


def test_instant_counter_is_its_running_total(metrics: Metrics, entries: list[Entry]) -> None:
    found = values(ask(metrics, "jobs_total", start=START, step=17 * MINUTE, count=9))
    for number in range(9):
        wanted = by_queue(entries, START, START + number * 17 * MINUTE)
        for queue in "abc":
            total = math.fsum(wanted[queue]) if queue in wanted else None
            assert found[("queue", queue),][number] == pytest.approx(total)


def test_counter_has_a_point_for_each_recording(metrics: Metrics, entries: list[Entry]) -> None:
    found = ask(metrics, "jobs_total", start=START + HOUR, range=10 * MINUTE)
    (part,) = found.samples
    queue = [labels["queue"] for labels in part.labels].index("a")
    points = slice(part.offsets[queue], part.offsets[queue + 1])
    recorded = [(at, value) for at, of, value in entries if of == "a"]
    times = [at + 1 for at, _ in recorded]
    totals = np.cumsum([value for _, value in recorded])
    known = dict(zip(times, totals.tolist(), strict=True))
    window = range(START + 50 * MINUTE + 1, START + HOUR + 1)
    inside = [(at, known[at]) for at in dict.fromkeys(times) if at in window]
    got = list(zip(part.times[points].tolist(), part.values[points].tolist(), strict=True))
    inside_got = [each for each in got if each[0] in window]
    assert [at for at, _ in inside_got] == [at for at, _ in inside]
    assert [total for _, total in inside_got] == pytest.approx([total for _, total in inside])


def test_counter_is_known_until_it_is_idle(metrics: Metrics, entries: list[Entry]) -> None:
    options = MappingOptions(idle_ms=30 * MINUTE)
    last = max(at for at, queue, _ in entries if queue == "b")
    times = {"start": last + 1, "step": 30 * MINUTE, "count": 3, "options": options}
    found = values(ask(metrics, "jobs_total", Matcher("queue", "=", "b"), **times))
    total = pytest.approx(math.fsum(value for _, queue, value in entries if queue == "b"))
    assert found == {(("queue", "b"),): [total, None, None]}


def test_samples_of_a_gauge_are_exact(metrics: Metrics, entries: list[Entry]) -> None:
    until = START + HOUR
    found = ask(metrics, "depth", Matcher("queue", "!=", "c"), start=until, range=20 * MINUTE)
    (part,) = found.samples
    assert [labels["queue"] for labels in part.labels] == ["a", "b"] or len(part.labels) == 2
    for number, labels in enumerate(part.labels):
        points = slice(part.offsets[number], part.offsets[number + 1])
        rows = zip(part.times[points].tolist(), part.values[points].tolist(), strict=True)
        got = [row for row in rows if until - 20 * MINUTE < row[0] <= until]
        mine = {at: value for at, queue, value in entries if queue == labels["queue"]}
        assert got == [(at, mine[at]) for at in mine if until - 20 * MINUTE < at <= until]


def test_buckets_count_the_values_below_their_bound(metrics: Metrics, entries: list[Entry]) -> None:
    times = {"start": START + HOUR, "range": HOUR, "function": "increase"}
    found = values(ask(metrics, "size_bucket", **times))
    recorded = by_queue(entries, START, START + HOUR)
    assert len(found) == 4 * len(recorded)
    for (_, bound), (_, queue) in found:
        wanted = sum(value <= float(bound) for value in recorded[queue])
        assert found[("le", bound), ("queue", queue)] == [wanted]
    only = Matcher("le", "=~", "20.0|.Inf")
    assert len(values(ask(metrics, "size_bucket", only, **times))) == 2 * len(recorded)


def test_present_buckets_are_those_of_the_page(metrics: Metrics, entries: list[Entry]) -> None:
    now = START + 4 * HOUR
    found = values(ask(metrics, "size_bucket", start=now, options=MappingOptions(24 * HOUR)))
    for state in metrics.live("size")[0].series:
        running = np.cumsum([*state.buckets, state.count - sum(state.buckets)]).tolist()
        queue = state.tags["queue"]
        got = [found[("le", bound), ("queue", queue)] for bound in ("1.0", "20.0", "100.0", "+Inf")]
        assert got == [[count] for count in running]


@pytest.mark.parametrize("width", [HOUR, 10 * MINUTE])
def test_percentiles_of_distributions_equal_the_query(
    metrics: Metrics, entries: list[Entry], width: int
) -> None:
    count = 2 * HOUR // width
    times = {"start": START + width, "step": width, "count": count, "range": width}
    (part,) = ask(metrics, "size", function="rate", **times).distributions
    low, high = part.low.reshape(-1), part.high.reshape(-1)
    got = percentiles(list(part.points), low, high, np.array([0.95])).reshape(-1, count)
    for number in range(count):
        window = (BASE + number * width / 1000, BASE + (number + 1) * width / 1000)
        for row in metrics.query("size", aggregation="p95", group_by="queue", window=window):
            at = [labels["queue"] for labels in part.labels].index(row["queue"])
            assert got[at, number] == pytest.approx(row["p95"], rel=1e-12)
            assert part.count[at, number] * width / 1000 == pytest.approx(
                len(by_queue(entries, int(window[0] * 1000), int(window[1] * 1000))[row["queue"]])
            )


def test_labels_are_those_of_the_page_with_external_ones(metrics: Metrics) -> None:
    metrics.gauge("a.depth", 1, tags={"my-key": "x", "job": "own", "empty": ""})
    options = MappingOptions(external={"job": "api", "instance": "one"})
    now = round(metrics.internals.clock() * 1000)
    (part,) = ask(metrics, "a_depth", start=now, options=options).samples
    assert part.labels == [{"__name__": "a_depth", "my_key": "x", "job": "own", "instance": "one"}]
    other = Matcher("instance", "=", "two")
    assert not ask(metrics, "a_depth", other, start=now, options=options).samples


def test_series_that_differ_in_an_empty_tag_are_one(metrics: Metrics) -> None:
    metrics.increment("jobs", 2, tags={"queue": ""})
    metrics.increment("jobs", 3)
    now = round(metrics.internals.clock() * 1000) + 60_000
    assert values(ask(metrics, "jobs_total", start=now)) == {(): [5.0]}
    increase = ask(metrics, "jobs_total", start=now, range=HOUR, function="increase")
    assert values(increase) == {(): [5.0]}


def test_counter_without_its_suffix_gets_a_hint(metrics: Metrics) -> None:
    metrics.increment("jobs")
    found = ask(metrics, "jobs", start=START)
    assert found.infos == ["no metric is named `jobs`; did you mean `jobs_total`?"]
    assert not ask(metrics, "nothing", start=START).infos


def test_lookback_is_the_metrics_own_unless_the_request_has_one(metrics: Metrics) -> None:
    metrics.declare("nightly", "gauge", lookback=26 * 3600)
    metrics.gauge("nightly", 7)
    now = round(metrics.internals.clock() * 1000)
    (part,) = ask(metrics, "nightly", start=now + 25 * HOUR).samples
    assert part.values.tolist() == [7.0]
    assert part.lookback is not None
    assert part.lookback.tolist() == [26 * HOUR]
    (part,) = ask(metrics, "nightly", start=now, lookback=MINUTE).samples
    assert part.lookback is not None
    assert part.lookback.tolist() == [MINUTE]


def test_budget_stops_rows_that_are_in_many_windows(metrics: Metrics, entries: list[Entry]) -> None:
    times = {"start": START + 2 * HOUR, "step": 1, "count": 100_000, "range": HOUR}
    with pytest.raises(EvaluationFailed, match="too many samples"):
        ask(metrics, "size", function="rate", budget=Budget.of(max_samples=1_000_000), **times)


def test_instant_distribution_is_all_that_is_stored(metrics: Metrics, entries: list[Entry]) -> None:
    times = {"start": START + HOUR, "step": HOUR, "count": 2}
    (part,) = ask(metrics, "size", Matcher("queue", "=", "a"), **times).distributions
    counts = [len(by_queue(entries, START, START + hours * HOUR)["a"]) for hours in (1, 2)]
    assert part.count.tolist() == [counts]


def test_budget_counts_the_buckets_of_a_histogram(metrics: Metrics, entries: list[Entry]) -> None:
    times = {"start": START + HOUR, "step": MINUTE, "count": 60, "range": HOUR}
    # 3 series, 4 buckets.
    for most in (3 * 4 * 121 - 1, 3 * 4 * 121):
        budget = Budget.of(max_samples=most)
        # What is read counts as well, but only up to now.
        budget.samples = -10_000
        if most == 3 * 4 * 121:
            found = ask(metrics, "size_bucket", function="rate", budget=budget, **times)
            assert len(found.values) == 4
        else:
            with pytest.raises(EvaluationFailed, match="too many samples"):
                ask(metrics, "size_bucket", function="rate", budget=budget, **times)


@pytest.mark.slow
def test_answers_are_the_same_on_a_cluster(cluster: Cluster, namespace: str) -> None:
    with Metrics(cluster.url, namespace=namespace, flush_interval=3600) as metrics:
        for number in range(60):
            at, tags = BASE + 60 * number, {"queue": "ab"[number % 2]}
            for name in ("jobs", "clicks", "mails"):
                metrics.increment(name, number, tags=tags, timestamp=at)
        found = metrics.promql_query('{__name__=~".+_total"}', BASE + 3600)
        assert sorted((*row["labels"].values(), row["value"]) for row in found) == [
            (f"{name}_total", queue, total)
            for name in ("clicks", "jobs", "mails")
            for queue, total in (("a", 870.0), ("b", 900.0))
        ]


def test_possibly_hidden_resets_give_an_info(
    metrics: Metrics, make_worker: MakeWorker, entries: list[Entry]
) -> None:
    make_worker().pass_once(alone=True)
    window = {"start": START + 2 * HOUR, "function": "rate"}
    # Of a window that is this long, whole minutes are read.
    found = ask(metrics, "depth", range=72 * HOUR, **window)
    (info,) = found.infos
    assert info.startswith("resets of `depth` are missed within a minute")
    assert not ask(metrics, "depth", range=HOUR, **window).infos
    assert not ask(metrics, "depth", range=72 * HOUR, start=START).infos
