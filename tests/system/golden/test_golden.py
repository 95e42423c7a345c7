"""The stored bytes of each FORMAT ever released, read by today's code.

format2.json holds every key of a small namespace as the code of FORMAT 2 wrote it: name -> type and
content in hex. `record` below made it, on a server whose clock was set to a fixed time in the
future. FORMAT 1 was never released: its file shows that such a namespace is refused.
While a format is not released yet,

    python -m tests.system.golden.test_golden

writes the file of the current FORMAT again, on the first server that the tests find. After a
release it must never change. The expected results are plain lists; they hold for the file and for
what today's code writes.
"""

import json
import math
import statistics
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from redismetrics import FormatMismatch, Gauge, Metrics, Sample, StoreError
from redismetrics.export import export
from redismetrics.exposition.families import SeriesState
from redismetrics.model.validation import OVERFLOW_TAGS
from redismetrics.store import keys
from tests.fixtures.servers import Server
from tests.system.golden.dumps import FOLDER, dump, load, read_all, restored_dump, save, write_all

NAMESPACE = "golden"
# A flush interval longer than any test: only the test itself flushes.
NEVER = 3_600.0

# 2025-06-15 15:06:40 UTC, when the clients recorded.
BASE = 1_750_000_000
# 2033-05-18 03:33:20 UTC, the server's clock before the first batch; each batch adds 1 µs.
CLOCK = 2_000_000_000
AGES: Any = {"max_age": 1e9, "minute_retention": 2e9, "hour_retention": 2e9, "day_retention": 2e9}
# Seconds; longer than from BASE to CLOCK, and to any day on which this runs.
AGE = 1e9
WRITERS = ("a1", "b2", "c3", "d4")

HOSTILE = 'a "b"\\\n/ü\0😀'
ODD_NAME = "a.b:c/d-e"
# Each value once; sums of them are exact.
COMPACTED = [number * 3 % 500 / 8 for number in range(500)]


# -- recording ----------------------------------------------------------------------------------


def record(server: Server) -> None:
    """Record everything that FORMAT 2 has, on its own server; the tests below query it."""

    def client(number: int, clock: float, **settings: Any) -> Metrics:
        made = Metrics(
            server.url,
            namespace=NAMESPACE,
            flush_interval=NEVER,
            samples_per_flush=20,
            **AGES,
            clock=lambda: clock,
            **settings,
        )
        made._sink.sender.writer = WRITERS[number]
        return made

    with server.client() as direct:
        direct.set(keys.shard(NAMESPACE, 0).clock, f"{CLOCK}000000")

    took: dict[str, Any] = {
        "help": "How long",
        "unit": "seconds",
        "buckets": (0.1, 1, 10),
        "tag_keys": ["queue"],
    }
    with client(0, BASE) as metrics:
        metrics.declare("took", "histogram", **took)
        for _ in range(352):
            metrics.increment("jobs", tags={"queue": "mail"})
        metrics.increment("jobs", 2.5, tags={"queue": "mail"})
        metrics.increment("jobs", 4, tags={"queue": "audio"}, timestamp=BASE - 86_400)
        metrics.increment("jobs", 0, metadata={"trace_id": "x", "ü": [1, None]})
        metrics.gauge("depth", 3, tags={"queue": "mail"})
        metrics.gauge("depth", 9, tags={"queue": "mail"})
        Gauge("depth", {"queue": "audio"}, metrics=metrics).add(2)
        for value in (0.05, 0.1, 0.7, 20):
            metrics.histogram("took", value, tags={"queue": "mail"})
        metrics.increment("bytes", 2.0**53)
        metrics.gauge("again", 1, tags={"n": 0})
        metrics.gauge("again", 2, tags={"n": 1})

    with client(1, BASE + 60.25) as metrics:
        metrics.declare("took", "histogram", **took)
        mail, audio = (
            Gauge("depth", {"queue": queue}, metrics=metrics) for queue in ("mail", "audio")
        )
        audio.add(5)
        audio.add(-1)
        mail.set(7)
        mail.add(1)
        for value in COMPACTED:
            metrics.histogram("took", value, tags={"queue": "audio"})
        metrics.increment("jobs", 3, tags={"queue": "mail"})
        metrics.increment("bytes", 1)
        metrics.flush()
        metrics.increment("bytes", 1)
        metrics.gauge("temperature", 20.5, timestamp=BASE + 10)
        metrics.flush()
        # Late.
        metrics.gauge("temperature", -19.25, timestamp=BASE + 5)
        assert metrics.delete_metric("again")
        metrics.gauge("again", 3, tags={"n": 1})

    # Ahead of the server: times are cut to the batch's clock.
    with client(2, CLOCK + 3_600, max_series=3) as metrics:
        metrics.histogram(ODD_NAME, 1.5, tags={"value": HOSTILE})
        for number in range(5):
            metrics.increment("wide", number, tags={"n": number})
            metrics.flush()

    with client(3, BASE + 120) as metrics:
        # Totals in several rows of several fields.
        for number in range(70):
            metrics.increment("many", number, tags={"n": number})


def moment(seconds: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=math.floor(seconds * 1000))


def sample(
    name: str, kind: Any, value: float, tags: dict[str, str], seconds: float, **more: Any
) -> Sample:
    return Sample(name, kind, value, more.pop("count", 1), tags, moment(seconds), **more)


MAIL, AUDIO = {"queue": "mail"}, {"queue": "audio"}
SAMPLES = [
    sample("jobs", "counter", 4, AUDIO, BASE - 86_400),
    sample("jobs", "counter", 1, MAIL, BASE, count=352),
    sample("jobs", "counter", 2.5, MAIL, BASE),
    sample("jobs", "counter", 0, {}, BASE, metadata={"trace_id": "x", "ü": [1, None]}),
    sample("jobs", "counter", 3, MAIL, BASE + 60.25),
    sample("depth", "gauge", 3, MAIL, BASE),
    sample("depth", "gauge", 9, MAIL, BASE),
    sample("depth", "gauge", 2, AUDIO, BASE),
    sample("depth", "gauge", 7, MAIL, BASE + 60.25),
    sample("depth", "gauge", 8, MAIL, BASE + 60.25),
    sample("depth", "gauge", 6, AUDIO, BASE + 60.25),
    *(sample("took", "histogram", value, MAIL, BASE) for value in (0.05, 0.1, 0.7, 20)),
    sample("bytes", "counter", 2.0**53, {}, BASE),
    *(sample("bytes", "counter", 1, {}, BASE + 60.25) for _ in range(2)),
    sample("temperature", "gauge", -19.25, {}, BASE + 5),
    sample("temperature", "gauge", 20.5, {}, BASE + 10),
    sample("again", "gauge", 3, {"n": "1"}, BASE + 60.25),
    sample(ODD_NAME, "histogram", 1.5, {"value": HOSTILE}, CLOCK),
    *(sample("wide", "counter", number, {"n": str(number)}, CLOCK) for number in range(3)),
    *(sample("wide", "counter", number, OVERFLOW_TAGS, CLOCK) for number in (3, 4)),
    *(sample("many", "counter", number, {"n": str(number)}, BASE + 120) for number in range(70)),
]
NAMES = ["jobs", "depth", "took", "bytes", "temperature", "again", ODD_NAME, "wide", "many"]


# -- dumping and restoring ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    return dump(NAMESPACE, record)


@pytest.fixture(params=["format2.json", "today"])
def content(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The keys of each golden file, and the keys that today's code writes."""
    if request.param == "today":
        found: dict[str, Any] = request.getfixturevalue("written")
        return found
    return load(request.param)


@pytest.fixture
def restored(server: Server, content: dict[str, Any]) -> Iterator[redis.Redis]:
    """A server whose namespace holds the dump and nothing else."""
    with restored_dump(server, NAMESPACE, content) as client:
        yield client


@pytest.fixture
def metrics(restored: redis.Redis, url: str) -> Iterator[Metrics]:
    # The server's clock continues from the dump, so its series seem idle for years.
    metrics = Metrics(url, namespace=NAMESPACE, flush_interval=NEVER, series_idle=AGE, **AGES)
    yield metrics
    metrics.close(0.2)


# -- the dump itself ----------------------------------------------------------------------------


def test_file_is_of_this_format_and_has_every_kind_of_key(content: dict[str, Any]) -> None:
    kinds = {key.rpartition(":")[2]: of_key["type"] for key, of_key in content.items()}
    assert kinds == {
        "config": "hash",
        "clock": "string",
        "writers": "hash",
        "catalogue": "hash",
        "dirty": "zset",
        "series": "hash",
        "live": "hash",
        "log": "zset",
        "state": "hash",
        "recorded": "hash",
        "values": "hash",
    }
    config = {
        bytes.fromhex(field): bytes.fromhex(value)
        for field, value in content[keys.config(NAMESPACE)]["content"].items()
    }
    assert config == {
        b"format": b"2",
        b"shards": b"1",
        b"retentions": b"raw:86400 minute:2000000000 hour:2000000000 day:2000000000",
    }
    of_metrics = {key for name in NAMES for key in keys.metric(NAMESPACE, 0, name)}
    # Of a metric that was deleted.
    state = keys.rollup(NAMESPACE, 0, "again").state
    shard = keys.shard(NAMESPACE, 0)
    there = {key for key in content if not key.endswith(":values")}
    of_metrics = {key for key in of_metrics if not key.endswith(":values")}  # some have no tags
    assert of_metrics | {*shard, keys.config(NAMESPACE), state} == there


def test_current_format_has_a_file() -> None:
    assert sorted(path.name for path in FOLDER.glob("*.json")) == [
        f"exact{keys.FORMAT}.json",
        "format1.json",
        f"format{keys.FORMAT}.json",
        f"kinds{keys.FORMAT}.json",
        f"processes{keys.FORMAT}.json",
        f"sealed{keys.FORMAT}.json",
    ]


def test_dump_is_reproducible(written: dict[str, Any]) -> None:
    again, writers = dump(NAMESPACE, record), keys.shard(NAMESPACE, 0).writers
    # A writer's entry holds the reply that it got, and in it the server's time.
    assert again.pop(writers)["content"].keys() == written[writers]["content"].keys()
    others = {key: of_key for key, of_key in written.items() if key != writers}
    assert without_times(again) == without_times(others)


def without_times(content: dict[str, Any]) -> dict[str, Any]:
    """Replace the server's time in the stamps of blocks and changes."""

    def masked(data: str) -> str:
        return data[:16] + "-" * 16 + data[32:]

    found = {}
    for key, of_key in content.items():
        value = of_key["content"]
        if key.endswith(":log"):
            value = [[score, masked(member)] for score, member in value]
        elif key.endswith(":live"):
            value = {
                field: masked(data) if field.startswith(b"+".hex()) else data
                for field, data in value.items()
            }
        found[key] = {**of_key, "content": value}
    return found


def test_restored_keys_equal_the_dump(restored: redis.Redis, content: dict[str, Any]) -> None:
    assert read_all(restored, NAMESPACE) == content


# -- queries ------------------------------------------------------------------------------------


def plain(samples: list[Sample]) -> list[Sample]:
    """Return samples in a fixed order, also those of equal times and different series."""
    return sorted(samples, key=lambda each: (each.timestamp, sorted(each.tags.items())))


@pytest.mark.parametrize("name", NAMES)
def test_every_sample_is_returned_as_recorded(metrics: Metrics, name: str) -> None:
    # The other samples are compressed.
    tags = MAIL if name == "took" else None
    expected = [each for each in SAMPLES if each.name == name]
    assert plain(metrics.query(name, tags=tags)) == plain(expected)


def test_get_metrics_lists_all_newest_first_and_one_by_one(metrics: Metrics) -> None:
    found = metrics.get_metrics(limit=10_000)["metrics"]
    assert [each["timestamp"] for each in found] == sorted(
        (each["timestamp"] for each in found), reverse=True
    )
    uncompacted = [each for each in found if (each["name"], each["tags"]) != ("took", AUDIO)]
    as_text = lambda each: json.dumps(each, sort_keys=True)  # noqa: E731
    assert sorted(uncompacted, key=as_text) == sorted(
        (each.to_dict() for each in SAMPLES for _ in range(each.count)), key=as_text
    )
    newest = metrics.get_metrics(name="jobs", limit=2, tags=MAIL)["metrics"]
    assert [(each["value"], each["timestamp"]) for each in newest] == [
        (3, moment(BASE + 60.25).isoformat()),
        (2.5, moment(BASE).isoformat()),
    ]


PLAIN: dict[str, Callable[[list[float]], float]] = {
    "count": len,
    "sum": math.fsum,
    "mean": statistics.fmean,
    "min": min,
    "max": max,
    "last": lambda some: some[-1],
    "p0": min,
    "p100": max,
}


@pytest.mark.parametrize("aggregation", sorted(PLAIN))
def test_compressed_samples_are_exact_except_percentiles(
    metrics: Metrics, aggregation: str
) -> None:
    assert metrics.query("took", aggregation=aggregation, tags=AUDIO) == PLAIN[aggregation](
        COMPACTED
    )
    everything = [0.05, 0.1, 0.7, 20, *COMPACTED]
    if aggregation == "p0":
        return  # see below
    assert metrics.query("took", aggregation=aggregation) == pytest.approx(
        PLAIN[aggregation](everything), rel=1e-13
    )


def test_p0_is_the_minimum_even_if_a_centroid_begins_below_it(metrics: Metrics) -> None:
    assert metrics.query("took", aggregation="p0") == metrics.query("took", aggregation="min") == 0


def test_compressed_samples_keep_stddev_and_approximate_percentiles(metrics: Metrics) -> None:
    found = metrics.query("took", tags=AUDIO)
    assert len(found) <= 20
    assert sum(each.count for each in found) == 500
    assert {each.timestamp for each in found} == {moment(BASE + 60.25)}
    assert metrics.query("took", aggregation="stddev", tags=AUDIO) == pytest.approx(
        statistics.pstdev(COMPACTED), rel=1e-12
    )
    ordered = sorted(COMPACTED)
    for rank in (1, 10, 25, 50, 75, 90, 99):
        about = metrics.query("took", aggregation=f"p{rank}", tags=AUDIO)
        # The rank among 500 values is off by about ten at most, in the middle.
        assert ordered[max(rank * 5 - 15, 0)] <= about <= ordered[min(rank * 5 + 15, 499)]


def test_groups_windows_and_intervals(metrics: Metrics) -> None:
    assert metrics.query("jobs", aggregation="sum", group_by="queue") == [
        {"queue": None, "sum": 0},
        {"queue": "audio", "sum": 4},
        {"queue": "mail", "sum": 357.5},
    ]
    assert metrics.rollup(
        "depth", group_by="queue", aggregations=["last", "count"], window=None
    ) == {
        "audio": {"last": 6, "count": 2},
        "mail": {"last": 8, "count": 4},
    }
    assert metrics.query("jobs", aggregation="count", window=(BASE, BASE + 60.25)) == 354
    assert metrics.query("jobs", aggregation="count", window=(BASE, BASE + 60.251)) == 355
    assert metrics.time_series("jobs", interval="day", aggregation="sum", window=None) == [
        {"timestamp": datetime(2025, 6, 14, tzinfo=UTC), "sum": 4},
        {"timestamp": datetime(2025, 6, 15, tzinfo=UTC), "sum": 357.5},
    ]
    assert metrics.tag_values(ODD_NAME, "value") == [HOSTILE]
    assert metrics.tag_values("again", "n") == ["1"]


def test_list_metrics_returns_every_definition(metrics: Metrics) -> None:
    found = {each.pop("name"): each for each in metrics.list_metrics()}
    for each in found.values():
        assert each.pop("last_seen") == moment(CLOCK)
        assert each.pop("options") == {}
    assert found == {
        "jobs": {"type": "counter", "unit": "", "help": "", "series": 3},
        "depth": {"type": "gauge", "unit": "", "help": "", "series": 2},
        "took": {"type": "histogram", "unit": "seconds", "help": "How long", "series": 2},
        "bytes": {"type": "counter", "unit": "", "help": "", "series": 1},
        "temperature": {"type": "gauge", "unit": "", "help": "", "series": 1},
        "again": {"type": "gauge", "unit": "", "help": "", "series": 1},
        ODD_NAME: {"type": "histogram", "unit": "", "help": "", "series": 1},
        "wide": {"type": "counter", "unit": "", "help": "", "series": 4},
        "many": {"type": "counter", "unit": "", "help": "", "series": 70},
    }


def test_live_returns_the_state_of_every_series(metrics: Metrics) -> None:
    families = {family.name: family for family in metrics.live()}
    assert families.keys() == set(NAMES)
    assert families["took"].definition.buckets == (0.1, 1, 10)
    assert families["took"].definition.tag_keys == ("queue",)
    bounds = families[ODD_NAME].definition.buckets
    seen = CLOCK * 1000
    expected: dict[str, list[SeriesState]] = {
        "jobs": [
            SeriesState({}, seen, 0),
            SeriesState(AUDIO, seen, 4),
            SeriesState(MAIL, seen, 357.5),
        ],
        "depth": [SeriesState(AUDIO, seen, 6), SeriesState(MAIL, seen, 8)],
        "took": [
            SeriesState(
                AUDIO, seen, math.fsum(COMPACTED), 500, in_buckets(COMPACTED, (0.1, 1, 10))
            ),
            SeriesState(MAIL, seen, 20.85, 4, (2, 1, 0)),
        ],
        "bytes": [SeriesState({}, seen, 2.0**53 + 2)],
        "temperature": [SeriesState({}, seen, 20.5)],
        "again": [SeriesState({"n": "1"}, seen, 3)],
        ODD_NAME: [SeriesState({"value": HOSTILE}, seen, 1.5, 1, in_buckets([1.5], bounds))],
        "wide": [
            *(SeriesState({"n": str(number)}, seen, number) for number in range(3)),
            SeriesState(OVERFLOW_TAGS, seen, 7),
        ],
        "many": [SeriesState({"n": str(number)}, seen, number) for number in range(70)],
    }
    for name, series in expected.items():
        found = sorted(families[name].series, key=lambda live: sorted(live.tags.items()))
        assert found == sorted(series, key=lambda live: sorted(live.tags.items()))


def in_buckets(values: list[float], bounds: tuple[float, ...]) -> tuple[int, ...]:
    lower = (-math.inf, *bounds)
    return tuple(
        sum(low < value <= high for value in values)
        for low, high in zip(lower, bounds, strict=False)
    )


# -- recording continues -------------------------------------------------------------------------


def test_recording_continues(metrics: Metrics, restored: redis.Redis) -> None:
    metrics.increment("jobs", 0.5, tags=MAIL)
    metrics.increment("jobs", 8, tags={"queue": "new"})
    Gauge("depth", AUDIO, metrics=metrics).add(1.5)
    metrics.histogram("took", 0.5, tags=MAIL)
    # A series from before the deletion.
    metrics.gauge("again", 4, tags={"n": 0})
    metrics.increment("bytes", 2)
    metrics.flush()
    assert metrics.query("jobs", aggregation="sum", tags=MAIL) == 358
    assert metrics.query("jobs", aggregation="sum") == 370
    assert metrics.query("depth", aggregation="last", tags=AUDIO) == 7.5
    assert metrics.query("took", aggregation="count") == 505
    live = {
        (family.name, *each.tags.values()): each
        for family in metrics.live()
        for each in family.series
    }
    assert live["jobs", "mail"].value == 358
    assert live["jobs", "new"].value == 8
    assert live["depth", "audio"].value == 7.5
    assert (live["took", "mail"].count, live["took", "mail"].buckets) == (5, (2, 2, 0))
    assert live["bytes",].value == 2.0**53 + 4
    assert (live["again", "0"].value, live["again", "1"].value) == (4, 3)
    numbers = restored.hvals(keys.metric(NAMESPACE, 0, "again").series)
    # 0 and 1 were used before the deletion.
    assert sorted(numbers) == [b"2", b"3"]
    clock = restored.get(keys.shard(NAMESPACE, 0).clock)
    assert clock is not None
    # The clock only grows.
    assert int(clock) // 1_000_000 >= CLOCK


def test_batch_applied_before_the_dump_is_not_applied_again(
    metrics: Metrics, restored: redis.Redis
) -> None:
    before = read_all(restored, NAMESPACE)
    sender = metrics._sink.sender
    # The last batch of this writer was its fourth: this one.
    sender.writer, sender._sequence[0] = WRITERS[1], 3
    metrics.gauge("again", 3, tags={"n": 1})
    metrics.flush()
    assert read_all(restored, NAMESPACE) == before
    metrics.gauge("again", 5, tags={"n": 1})
    metrics.flush()
    assert [each.value for each in metrics.query("again", tags={"n": 1})] == [3, 5]


# -- another format -----------------------------------------------------------------------------


@pytest.fixture
def newer(restored: redis.Redis) -> dict[str, Any]:
    """Return the keys of the namespace after a newer version has upgraded it."""
    restored.hset(keys.config(NAMESPACE), "format", str(keys.FORMAT + 1))
    return read_all(restored, NAMESPACE)


SAYS = rf"must have format {keys.FORMAT}, got {keys.FORMAT + 1}"


@pytest.mark.parametrize(
    "ask",
    [
        lambda metrics: metrics.query("jobs"),
        lambda metrics: metrics.query("nobody", aggregation="count"),
        lambda metrics: metrics.time_series("jobs"),
        lambda metrics: metrics.rollup("jobs"),
        lambda metrics: metrics.digest("took"),
        lambda metrics: metrics.get_metrics(),
        lambda metrics: metrics.get_stats(),
        lambda metrics: metrics.list_metrics(),
        lambda metrics: metrics.tag_values("jobs", "queue"),
        lambda metrics: metrics.live(),
        lambda metrics: export(metrics=metrics),
        lambda metrics: metrics.subscribe(),
        lambda metrics: metrics.delete_metric("jobs"),
        lambda metrics: metrics.clear(confirm=True),
    ],
    ids=lambda ask: ask.__code__.co_names[0],
)
def test_newer_format_is_rejected_by_queries_and_not_changed(
    newer: dict[str, Any], metrics: Metrics, restored: redis.Redis, ask: Callable[[Metrics], Any]
) -> None:
    with pytest.raises(FormatMismatch, match=SAYS):
        ask(metrics)
    assert read_all(restored, NAMESPACE) == newer


def test_flush_raises_at_once_for_a_newer_format(newer: dict[str, Any], metrics: Metrics) -> None:
    metrics.increment("jobs")
    with pytest.raises(FormatMismatch, match=SAYS):
        metrics.flush()


def test_newer_format_is_rejected_when_recording_and_not_changed(
    newer: dict[str, Any], metrics: Metrics, restored: redis.Redis
) -> None:
    metrics.increment("jobs")
    metrics.increment("new")
    with pytest.raises(StoreError, match=SAYS):
        metrics.flush()
    # Kept in case the namespace is downgraded again.
    assert metrics.stats()["pending"] == 2
    assert read_all(restored, NAMESPACE) == newer
    metrics.close(0.2)
    assert metrics.stats()["dropped"] == {"unsent": 2}
    assert read_all(restored, NAMESPACE) == newer


@pytest.fixture
def older(server: Server) -> Iterator[redis.Redis]:
    """A server whose namespace is of FORMAT 1."""
    with server.client() as client:
        if left := read_all(client, NAMESPACE):
            client.delete(*left)
        write_all(client, load("format1.json"))
        yield client
        if left := read_all(client, NAMESPACE):
            client.delete(*left)


def test_an_older_format_is_rejected_with_the_command_that_clears_it(
    older: redis.Redis, url: str
) -> None:
    before = read_all(older, NAMESPACE)
    with Metrics(url, namespace=NAMESPACE, flush_interval=NEVER) as metrics:
        with pytest.raises(FormatMismatch, match=r"`redismetrics clear --namespace golden`"):
            metrics.query("jobs")
        metrics.increment("jobs")
        with pytest.raises(FormatMismatch, match="must have format 2, got 1"):
            metrics.flush()
        assert read_all(older, NAMESPACE) == before
        with Metrics(url, namespace=NAMESPACE) as other:
            assert other.clear(confirm=True) == len(NAMES)
        left = read_all(older, NAMESPACE).keys()
        assert left <= {keys.rollup(NAMESPACE, 0, "again").state}
        metrics.flush()  # what waited
        assert metrics.query("jobs", aggregation="sum") == 1


if __name__ == "__main__":
    save(f"format{keys.FORMAT}.json", dump(NAMESPACE, record))
