"""The Prometheus page end to end: what several clients recorded, through the real store, as the page's readers see it."""

import itertools
import math
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from redismetrics import Gauge, Histogram, InvalidQuery, Metrics, ScriptFailed
from redismetrics.export import export, negotiate
from redismetrics.exposition.families import SeriesState
from tests.fixtures.exposition import (
    HOSTILE_VALUES,
    OPENMETRICS,
    TEXT,
    needs_promtool,
    of_users,
    promtool,
    read,
    samples,
)
from tests.fixtures.servers import PATIENCE, Server, wait_until

ROOT = Path(__file__).parents[2]
NEVER = 3_600.0  # a flush interval beyond any test: what is flushed is flushed by the test
UNITLESS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100),
    *(250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000),
)

Make = Callable[..., Metrics]
Page = dict[tuple[str, frozenset[tuple[str, str]]], float]

both_formats = pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])


@pytest.fixture
def make(url: str, namespace: str) -> Iterator[Make]:
    """Return a function that makes clients of this test's namespace, closed at its end."""
    made: list[Metrics] = []

    def client(to: str = url, **settings: Any) -> Metrics:
        made.append(Metrics(to, namespace=namespace, flush_interval=NEVER, **settings))
        return made[-1]

    yield client
    for client_ in made:
        client_.close(0.5)


@pytest.fixture
def metrics(make: Make) -> Metrics:
    return make()


@pytest.fixture
def other(make: Make) -> Metrics:
    """A second client of the same namespace, as in another process."""
    return make()


def page(metrics: Metrics, *, openmetrics: bool = False) -> Page:
    """Every sample of the page by name and labels, as the parser of its format reads them."""
    return samples(export(metrics=metrics, openmetrics=openmetrics), openmetrics)


def at(name: str, /, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def histogram_of(
    name: str, values: Sequence[float], bounds: Sequence[float], /, **labels: str
) -> Page:
    """What a page must show of *values*, counted one by one."""
    shown: Page = {
        at(f"{name}_bucket", le=le(bound), **labels): sum(value <= bound for value in values)
        for bound in (*bounds, math.inf)
    }
    shown[at(f"{name}_sum", **labels)] = math.fsum(values)
    shown[at(f"{name}_count", **labels)] = len(values)
    return shown


def le(bound: float) -> str:
    """Bounds as OpenMetrics writes them, those of these tests."""
    return {math.inf: "+Inf"}.get(bound, repr(float(bound)))


# -- totals -------------------------------------------------------------------------------------------------------


@both_formats
def test_what_two_clients_recorded_is_on_the_page_to_the_last_digit(
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

    wanted: Page = {
        at("jobs_completed_total", queue=queue): float(total) for queue, total in jobs.items()
    }
    wanted |= {at("queue_depth", queue=queue): value for queue, value in depth.items()}
    for queue, values in took.items():
        wanted |= histogram_of("run_seconds", values, bounds, queue=queue)
    assert page(metrics, openmetrics=openmetrics) == wanted
    assert page(other, openmetrics=openmetrics) == wanted
    families = read(export(metrics=other, openmetrics=openmetrics), openmetrics)
    assert {name: (family.type, family.documentation) for name, family in families.items()} == {
        "jobs_completed": ("counter", "Jobs completed"),
        "queue_depth": ("gauge", "Queue depth"),
        "run_seconds": ("histogram", "How long it took"),
    }
    assert families["run_seconds"].unit == ("seconds" if openmetrics else "")


def test_what_is_unsent_is_on_the_page_of_its_own_client(metrics: Metrics, other: Metrics) -> None:
    metrics.increment("jobs", 3)
    assert page(other) == {}
    assert page(metrics) == {at("jobs_total"): 3}


def test_an_amount_too_small_for_the_total_adds_up(metrics: Metrics) -> None:
    metrics.increment("bytes", 2.0**53)
    for _ in range(3):
        metrics.flush()
        metrics.increment("bytes", 1)
    assert page(metrics) == {at("bytes_total"): 2.0**53 + 4}  # 3 more is no float: the nearest one


def test_of_a_gauge_the_newest_value_is_shown_and_changes_add_up(
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


def test_counters_and_histograms_never_go_down(make: Make) -> None:
    """Over flushes, clients that end, clients that begin, and samples of all ages."""
    generator = random.Random(11)
    clients = [make(), make()]
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
            clients[place] = make()
        else:
            clients[place].flush()
        if step % 6 == 0:
            now = page(make())
            assert all(now[sample] >= value for sample, value in before.items())
            before = now
    wanted: Page = {at("jobs_total", name=name): total for name, total in jobs.items()}
    assert page(make()) == wanted | histogram_of("took", took, UNITLESS)


def test_series_that_are_idle_leave_and_come_back_from_their_totals(make: Make) -> None:
    metrics, reader = make(), make(series_idle=1)
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


# -- buckets ------------------------------------------------------------------------------------------------------


@both_formats
def test_buckets_are_exact_whatever_is_compacted(make: Make, openmetrics: bool) -> None:
    generator = random.Random(3)
    metrics = make(samples_per_flush=20)
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
def test_a_bound_is_inclusive(make: Make, unit: str) -> None:
    metrics = make(samples_per_flush=20)
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


def test_the_first_declared_buckets_hold_for_all(make: Make) -> None:
    metrics, late = make(), make()
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


# -- a store that lost its data ----------------------------------------------------------------------------------


def test_after_a_loss_of_data_samples_go_to_their_own_series(
    fresh_server: Callable[..., Server], make: Make
) -> None:
    server = fresh_server()
    metrics, other = make(server.url), make(server.url)
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


# -- names and tags that collide ----------------------------------------------------------------------------------


def names_on_page(metrics: Metrics) -> dict[float, str]:
    """Value -> name of the sample that has it."""
    return {value: name for (name, _), value in page(metrics).items()}


@pytest.mark.parametrize("order", list(itertools.permutations(["a.b", "a_b", "a/b"])))
@pytest.mark.parametrize("together", [False, True])
def test_of_names_that_collide_the_first_recorded_keeps_its_own(
    metrics: Metrics, other: Metrics, make: Make, order: tuple[str, ...], together: bool
) -> None:
    for number, name in enumerate(order):
        client = metrics if together else (metrics, other)[number % 2]
        client.gauge(name, number)
        if not together:
            client.flush()
    metrics.flush()
    for number, name in reversed(list(enumerate(order))):  # who comes again changes nothing
        other.gauge(name, number)
        other.flush()
    assert names_on_page(make()) == {0: "a_b", 1: "a_b_2", 2: "a_b_3"}


def test_a_metric_that_was_deleted_comes_last(metrics: Metrics) -> None:
    for number, name in enumerate(("a.b", "a_b")):
        metrics.gauge(name, number)
    metrics.flush()
    metrics.delete_metric("a.b")
    assert names_on_page(metrics) == {1: "a_b"}
    metrics.gauge("a.b", 0)
    assert names_on_page(metrics) == {1: "a_b", 0: "a_b_2"}


@both_formats
@pytest.mark.parametrize("first", ["lat", "lat_count"])
def test_a_histogram_beside_a_metric_named_like_its_count(
    metrics: Metrics, first: str, openmetrics: bool
) -> None:
    metrics.declare("lat", "histogram", buckets=(1, 2))
    for name in sorted(["lat", "lat_count"], reverse=first != "lat"):
        if name == "lat":
            metrics.histogram("lat", 1.5)
        else:
            metrics.gauge("lat_count", 77)
        metrics.flush()
    histogram, gauge = ("lat", "lat_count_2") if first == "lat" else ("lat_2", "lat_count")
    assert page(metrics, openmetrics=openmetrics) == {
        **histogram_of(histogram, [1.5], (1, 2)),
        at(gauge): 77,
    }


def test_a_counter_has_one_total(metrics: Metrics) -> None:
    metrics.increment("bytes_total", 2)
    metrics.flush()
    metrics.increment("bytes", 3)
    assert page(metrics) == {at("bytes_total"): 2, at("bytes_2_total"): 3}


@both_formats
def test_tags_that_collide_or_are_reserved_get_a_prefix(
    metrics: Metrics, openmetrics: bool
) -> None:
    metrics.declare("took", "histogram", buckets=(1,))
    metrics.histogram("took", 0.5, tags={"le": "mine", "queue": "mail"})
    metrics.gauge("depth", 4, tags={"le": "mine", "a.b": "dot", "a_b": "line"})
    assert page(metrics, openmetrics=openmetrics) == {
        **histogram_of("took", [0.5], (1,), tag_le="mine", queue="mail"),
        at("depth", le="mine", a_b="line", tag_a_b="dot"): 4,
    }


@both_formats
def test_any_tag_value_comes_back_exactly(
    metrics: Metrics, other: Metrics, openmetrics: bool
) -> None:
    for number, value in enumerate(HOSTILE_VALUES):
        (metrics, other)[number % 2].increment(
            "jobs", number + 1, tags={"value": value, "n": str(number)}
        )
    other.flush()
    assert page(metrics, openmetrics=openmetrics) == {
        at("jobs_total", value=value, n=str(number)): number + 1
        for number, value in enumerate(HOSTILE_VALUES)
    }


# -- promtool -----------------------------------------------------------------------------------------------------


def record_hostile(metrics: Metrics) -> int:
    """Everything that might go wrong, as far as it can be recorded; returns how many metrics."""
    for number, value in enumerate(HOSTILE_VALUES):
        metrics.gauge("values", number, tags={"value": value, "n": number})
    keys = [
        f"{start}{middle}{end}"
        for start in ("le", "__a", "tag_")
        for middle in "_./:-"
        for end in ("", "b")
    ]
    tags = {key: str(number) for number, key in enumerate(keys)}
    names = [
        start + end
        for start in ("a", "_", "a.b", "a-b", "a_b", "B:", "quantile", "go_", "up")
        for end in (
            "",
            "_total",
            "/total",
            "_bucket",
            "_count",
            "_sum",
            "_created",
            "_info",
            "_2",
            "_total_total",
        )
    ]
    for number, name in enumerate(names):
        kind: Any = ("counter", "gauge", "histogram")[number % 3]
        metrics.declare(
            name,
            kind,
            help=f'{number} "help\\n" \r\0\u2028 \n# EOF',
            unit=("", "total", "b")[number % 3],
        )
        for value in (0.5, 7.0) if kind == "counter" else (0.5, -1e6):
            metrics.record(
                name, value, type=kind, tags=tags if number % 7 == 0 else {"x": str(number)}
            )
        if number % 10 == 0:
            metrics.flush()
    return 1 + len(names)


@needs_promtool
def test_promtool_reads_a_hostile_page(metrics: Metrics) -> None:
    record_hostile(metrics)
    code, said = promtool(export(metrics=metrics))
    assert code in (0, 3), said  # 3: the names are no good style


@both_formats
def test_python_reads_a_hostile_page(metrics: Metrics, openmetrics: bool) -> None:
    count = record_hostile(metrics)
    assert len(read(export(metrics=metrics, openmetrics=openmetrics), openmetrics)) == count


@needs_promtool
def test_promtool_accepts_an_ordinary_page(metrics: Metrics, other: Metrics) -> None:
    metrics.declare(
        "request_duration_seconds", "histogram", unit="seconds", help="How long requests take"
    )
    for client in (metrics, other):
        client.histogram("request_duration_seconds", 0.3, tags={"method": "GET"})
        client.increment("jobs_completed", 2, tags={"queue": "mail"})
        client.gauge("queue_depth", 7, tags={"queue": "mail"})
        client.flush()
    assert promtool(export(metrics=metrics)) == (0, "")


# -- ways out -----------------------------------------------------------------------------------------------------


def test_one_metric_alone_has_its_plain_name(metrics: Metrics) -> None:
    for number, name in enumerate(("a.b", "a_b")):
        metrics.gauge(name, number)
        metrics.flush()
    assert export("a_b", metrics=metrics) == "# HELP a_b A b\n# TYPE a_b gauge\na_b 1\n"
    assert export("nobody", metrics=metrics) == ""
    assert export("nobody", metrics=metrics, openmetrics=True) == "# EOF\n"
    with pytest.raises(InvalidQuery):
        export("no name", metrics=metrics)


def test_negotiate_answers_with_the_page_and_its_type(metrics: Metrics) -> None:
    metrics.increment("jobs")
    body, kind = negotiate(None, metrics=metrics)
    assert (of_users(body.decode()), kind) == (export(metrics=metrics), TEXT)
    body, kind = negotiate("application/openmetrics-text", metrics=metrics)
    assert (of_users(body.decode()), kind) == (
        export(metrics=metrics, openmetrics=True),
        OPENMETRICS,
    )


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "redismetrics.export", *arguments]


def run_export(metrics: Metrics, *arguments: str) -> tuple[int, str, str]:
    """Exit status and output of the command, told by the environment where the store is."""
    environment = {
        **os.environ,
        "REDISMETRICS_URL": str(metrics.settings.url),
        "REDISMETRICS_NAMESPACE": metrics.settings.namespace,
        "PYTHONIOENCODING": "ascii",  # a page is UTF-8 all the same
    }
    done = subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((), {}),
        (("--openmetrics",), {"openmetrics": True}),
        (("--metric", "jobs"), {"name": "jobs"}),
        (("--metric", "nobody"), {"name": "nobody"}),
        (("--metric", "nobody", "--openmetrics"), {"name": "nobody", "openmetrics": True}),
    ],
)
def test_the_command_prints_the_page(
    metrics: Metrics, arguments: tuple[str, ...], options: dict[str, Any]
) -> None:
    metrics.increment("jobs", 3, tags={"queue": "Büro"})
    metrics.gauge("depth", 7)
    wanted = export(metrics=metrics, **options)
    assert ("nobody" in arguments) == (wanted in ("", "# EOF\n"))
    status, printed, said = run_export(metrics, *arguments)
    assert (status, of_users(printed), said) == (0, wanted, "")
    assert ("redismetrics_store_series 2" in printed) == ("--metric" not in arguments)


def test_the_command_takes_place_and_namespace_as_arguments(url: str, metrics: Metrics) -> None:
    metrics.gauge("depth", 7)
    metrics.flush()
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("REDISMETRICS_")
    }
    where = ("--url", url, "--namespace", metrics.settings.namespace)
    done = subprocess.run(
        command(*where),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    wanted = "# HELP depth Depth\n# TYPE depth gauge\ndepth 7\n"
    assert (done.returncode, of_users(done.stdout.decode()), done.stderr) == (0, wanted, b"")


def test_the_command_says_when_there_is_no_store(metrics: Metrics) -> None:
    code, page_, said = run_export(metrics, "--url", "redis://:secret@127.0.0.1:1/0")
    assert (code, page_) == (1, "")
    assert said.count("\n") == 1
    assert "secret" not in said


def test_serve_answers_each_scrape_with_what_is_stored_by_then(url: str, metrics: Metrics) -> None:
    metrics.increment("jobs")
    metrics.flush()
    where = ("--url", url, "--namespace", metrics.settings.namespace)
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command("--serve", "127.0.0.1:0", *where), cwd=ROOT, stdout=pipe, stderr=pipe
    ) as process:
        try:
            assert process.stderr is not None
            address = process.stderr.readline().decode().removeprefix("serving on ").strip()
            assert address.startswith("http://127.0.0.1:"), address
            for count in (1, 2):
                with urllib.request.urlopen(address, timeout=5) as answer:
                    assert (
                        of_users(answer.read().decode())
                        == f"# HELP jobs_total Jobs\n# TYPE jobs_total counter\njobs_total {count}\n"
                    )
                    assert answer.headers["Content-Type"] == TEXT
                metrics.increment("jobs")
                metrics.flush()
            asked = urllib.request.Request(
                address, headers={"Accept": "application/openmetrics-text"}
            )
            with urllib.request.urlopen(asked, timeout=5) as answer:
                assert of_users(answer.read().decode()) == export(metrics=metrics, openmetrics=True)
                assert answer.headers["Content-Type"] == OPENMETRICS
            process.send_signal(signal.SIGTERM)
            out, said = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert (process.returncode, out, said) == (0, b"", b"")


def test_a_user_who_may_only_read_gets_the_page(
    fresh_server: Callable[..., Server], make: Make
) -> None:
    server = fresh_server(port=True)
    writer = make(server.url)
    writer.increment("jobs", 5, tags={"queue": "mail"})
    writer.histogram("took", 0.25)
    writer.flush()
    rights = "on >secret resetkeys %R~rm:* resetchannels -@all +@read +time"
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "reader", *rights.split())
        reader = make(f"redis://reader:secret@127.0.0.1:{server.port}/0")
        assert page(reader) == page(writer)
        assert page(reader)[at("jobs_total", queue="mail")] == 5
        assert export("jobs", metrics=reader) == export("jobs", metrics=writer)
        reader.increment("jobs")
        with pytest.raises(ScriptFailed, match=r"(?i)perm"):  # the rights above do forbid writing
            reader.flush(1)


# -- live ---------------------------------------------------------------------------------------------------------


def test_live_is_every_series_as_it_stands(
    server: Server, metrics: Metrics, other: Metrics
) -> None:
    with server.client() as client:
        began = client.time()[0] * 1000
    metrics.declare(
        "took", "histogram", unit="seconds", buckets=(0.5, 1), help="How long", tag_keys=["queue"]
    )
    metrics.histogram("took", 0.5, tags={"queue": "mail"})
    metrics.flush()
    other.increment("jobs", 2, tags={"queue": "mail"}, timestamp=time.time() - 1_000)
    other.increment("jobs", 3, tags={"queue": "mail"})
    other.gauge("depth", -2.5)
    other.flush()
    metrics.histogram("took", 7, tags={"queue": "mail"})
    metrics.histogram("took", 0.75, tags={"queue": "mail"})
    found = metrics.live()
    with server.client() as client:
        ended = (client.time()[0] + 1) * 1000
    assert [family.name for family in found] == [
        "took",
        "jobs",
        "depth",
    ]  # in the order first recorded
    took, jobs, depth = (family.series for family in found)
    seen = [series[0].seen_ms for series in (took, jobs, depth)]
    assert all(began <= moment <= ended for moment in seen)
    assert took == [SeriesState({"queue": "mail"}, seen[0], 8.25, 3, (1, 1))]
    assert jobs == [SeriesState({"queue": "mail"}, seen[1], 5)]
    assert depth == [SeriesState({}, seen[2], -2.5)]
    definition = found[0].definition
    assert (definition.unit, definition.help, definition.buckets, definition.tag_keys) == (
        "seconds", "How long", (0.5, 1.0), ("queue",),
    )  # fmt: skip


def test_live_of_one_metric_and_of_none(metrics: Metrics) -> None:
    assert metrics.live() == metrics.live("jobs") == []
    metrics.increment("jobs")
    metrics.increment("other")
    assert [family.name for family in metrics.live("jobs")] == ["jobs"]
    assert metrics.live("nobody") == []


def test_live_has_all_of_many_series(metrics: Metrics) -> None:
    for number in range(500):
        metrics.increment("jobs", number, tags={"n": number})
    (family,) = metrics.live("jobs")
    assert {live.tags["n"]: live.value for live in family.series} == {
        str(number): number for number in range(500)
    }
