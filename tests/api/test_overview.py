"""The overview: figures and trends of many metrics in one answer, equal to those of queries."""

import time
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")

httpx = pytest.importorskip("httpx", reason="needs httpx")

from redismetrics import Metrics
from redismetrics.api.app import create_app
from redismetrics.api.cached_answers import CachedAnswers
from redismetrics.api.limits import Limits
from tests.fixtures.servers import PATIENT
from tests.fixtures.webserver import error_message, running

# A window of whole hours that is past and still held by the minute.
UNTIL = int(time.time()) // 3600 * 3600 - 3600
SINCE = UNTIL - 2 * 3600
WINDOW = f"since={SINCE}&until={UNTIL}"


@pytest.fixture
def filled(metrics: Metrics) -> Metrics:
    for number in range(120):
        at = SINCE - 3600 + number * 120 + 7
        tags = {"queue": "mail" if number % 3 else "web"}
        metrics.increment("jobs", number % 5, tags=tags, timestamp=at)
        metrics.histogram("latency", number / 7, tags=tags, timestamp=at)
        metrics.gauge("depth", number, timestamp=at)
    metrics.increment("old", 1, timestamp=SINCE - 3 * 3600)
    metrics.flush()
    return metrics


def overview(web: Any, query: str) -> Any:
    response = web.get(f"/api/overview?{query}")
    assert response.status_code == 200, response.text
    return response.json()


def by_name(answer: Any) -> dict[str, Any]:
    return {row["name"]: row for row in answer["metrics"]}


def test_figures_equal_those_of_queries(filled: Metrics, web: Any) -> None:
    answer = overview(web, f"{WINDOW}&interval=10m")
    found = by_name(answer)
    assert list(found) == ["depth", "jobs", "latency", "old"]
    times = list(range(SINCE, UNTIL, 600))
    assert (answer["times"], answer["interval"], answer["left_off"]) == (times, 600, 0)
    window, before = (SINCE, UNTIL), (2 * SINCE - UNTIL, SINCE)

    def figure(name: str, aggregation: str, window: Any = window) -> Any:
        return pytest.approx(filled.query(name, aggregation=aggregation, window=window), rel=1e-5)

    def column(name: str, aggregation: str, **tags: str) -> Any:
        rows = filled.time_series(
            name, interval="10m", aggregation=aggregation, window=window, fill=True, tags=tags
        )
        return [pytest.approx(row[aggregation], rel=1e-5) for row in rows]

    for name, main in (("jobs", "rate"), ("latency", "p95"), ("depth", "mean")):
        row = found[name]
        assert row["rate"] == figure(name, "rate")
        assert row["last"] == figure(name, "last")
        assert row["value"] == figure(name, main)
        assert row["previous"] == figure(name, main, before)
    assert found["jobs"]["trend"] == column("jobs", "rate")
    assert found["depth"]["trend"] == column("depth", "last")
    assert found["latency"]["trend"] == column("latency", "p95")
    assert found["latency"]["low"] == column("latency", "p50")
    assert found["latency"]["p95"] == found["latency"]["value"]
    assert [row["p95"] for row in (found["jobs"], found["depth"])] == [None, None]
    counts = [column(name, "count") for name in ("jobs", "latency", "depth")]
    assert answer["samples"] == [
        pytest.approx(sum(each.expected for each in of_time) / 600, rel=1e-5)
        for of_time in zip(*counts, strict=True)
    ]
    assert found["jobs"]["series"] == 2
    # Nothing in the window: it is listed all the same, without figures.
    assert found["old"]["trend"] == [None] * len(times)
    assert found["old"]["rate"] is None

    tagged = by_name(overview(web, f"{WINDOW}&interval=10m&tag=queue%3Dweb"))
    assert list(tagged) == ["jobs", "latency"]
    assert tagged["latency"]["trend"] == column("latency", "p95", queue="web")
    assert tagged["jobs"]["series"] == 1


def test_names_types_and_limit_choose_metrics(filled: Metrics, web: Any) -> None:
    def names(query: str) -> Any:
        return list(by_name(overview(web, f"{WINDOW}&{query}")))

    assert names("name=j*&name=old") == ["jobs", "old"]
    assert names("type=gauge&type=histogram") == ["depth", "latency"]
    assert names("name=nothing") == []
    limited = overview(web, f"{WINDOW}&limit=1")
    assert (list(by_name(limited)), limited["left_off"]) == (["depth"], 3)


def test_many_metrics_are_read_in_parts(filled: Metrics, web: Any) -> None:
    parts, after = [], ""
    while after is not None:
        part = overview(web, f"{WINDOW}&limit=3{after and f'&after={after}'}")
        parts.append((list(by_name(part)), part["left_off"]))
        after = part["next"]
    assert parts == [(["depth", "jobs", "latency"], 1), (["old"], 0)]
    # Also if none of a part has the tags.
    tagged = overview(web, f"{WINDOW}&limit=1&tag=queue%3Dweb")
    assert (tagged["metrics"], tagged["next"]) == ([], "depth")
    assert error_message(web.get("/api/overview?after=%20"), 400).startswith("invalid metric name")


def test_the_interval_suits_the_window(filled: Metrics, web: Any) -> None:
    assert overview(web, WINDOW)["interval"] == 120
    assert overview(web, f"since={UNTIL - 3600}&until={UNTIL}")["interval"] == 60
    assert overview(web, "window=30d")["interval"] == 12 * 3600
    # Minutes are no longer held that long ago.
    long_ago = UNTIL - 20 * 86_400
    assert overview(web, f"since={long_ago}&until={long_ago + 3600}")["interval"] == 3600
    message = error_message(web.get("/api/overview?interval=1m&window=1d"), 400)
    assert message.startswith("interval must yield at most 240 intervals, got 144")


def test_an_interval_that_is_no_longer_stored_yields_figures_without_trends(
    filled: Metrics, web: Any
) -> None:
    long = f"since={UNTIL - 4 * 86_400}&until={UNTIL}&interval=30m"
    row = by_name(overview(web, long))["depth"]
    assert (row["last"], row["value"], set(row["trend"])) == (89, 44.5, {None})


def test_an_empty_store_and_an_empty_window(web: Any, metrics: Metrics) -> None:
    assert overview(web, "window=1h")["metrics"] == []
    metrics.gauge("depth", 7)
    metrics.flush()
    future = int(time.time()) + 3600
    answer = overview(web, f"since={future}&until={future + 60}")
    assert (answer["times"], by_name(answer)["depth"]["trend"]) == ([], [])


def test_beyond_the_limit_of_series_metrics_have_no_figures(filled: Metrics) -> None:
    app = create_app(filled, limits=Limits(max_series=2))
    with running(app) as at, httpx.Client(base_url=at, **PATIENT) as web:
        found = by_name(overview(web, WINDOW))
    assert [name for name, row in found.items() if row["rate"] is not None] == ["depth"]
    assert found["jobs"]["series"] == 2


def test_equal_questions_share_an_answer(filled: Metrics, web: Any) -> None:
    first = overview(web, WINDOW)
    filled.increment("jobs", 1000, tags={"queue": "web"}, timestamp=UNTIL - 1)
    assert overview(web, WINDOW) == first
    assert by_name(overview(web, f"{WINDOW}&limit=7"))["jobs"] != by_name(first)["jobs"]


def test_cached_answers_expire_and_are_bounded() -> None:
    now = 0.0
    cache = CachedAnswers(10, lambda: now)
    made: list[str] = []

    def make(text: str) -> Any:
        def run() -> bytes:
            made.append(text)
            return text.encode()

        return run

    assert cache.get("a", 5, make("aaaa")) == b"aaaa"
    assert cache.get("a", 5, make("never")) == b"aaaa"
    now = 5.0
    assert cache.get("a", 5, make("again")) == b"again"
    # Larger than all that may be kept, and one more than fits: the oldest leaves.
    for _ in range(2):
        cache.get("large", 5, make("x" * 11))
    cache.get("b", 5, make("bbbbbb"))
    cache.get("a", 5, make("third"))
    assert made == ["aaaa", "again", "x" * 11, "x" * 11, "bbbbbb", "third"]


def test_cached_answers_are_bounded_in_number() -> None:
    cache = CachedAnswers(clock=lambda: 0.0, max_answers=2)
    for key in "abc":
        cache.get(key, 5, key.encode)
    assert cache.get("c", 5, "never".encode) == b"c"
    assert cache.get("b", 5, "never".encode) == b"b"
    assert cache.get("a", 5, "again".encode) == b"again"
