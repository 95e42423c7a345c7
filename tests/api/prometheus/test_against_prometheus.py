"""The same questions to a real Prometheus and to us get the same answers."""

import math
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.api.app import create_app
from tests.api.prometheus.answers import BASE, data
from tests.fixtures.prometheus import running_prometheus
from tests.fixtures.servers import PATIENCE, PATIENT, free_port, seconds_beside
from tests.fixtures.webserver import running

httpx = pytest.importorskip("httpx", reason="needs httpx")
pytest.importorskip("cramjam", reason="needs redismetrics[promql]")

Answer = dict[tuple[tuple[str, str], ...], Any]

KEPT = "go_memstats_.+|process_.+|prometheus_http_.+|prometheus_tsdb_head_.+"
OWN = '__name__!~"redismetrics_.+|scrape_.+|up"'


def instant(at: str, query: str, when: float) -> Answer:
    """Return the value of each series."""
    response = httpx.get(f"{at}/api/v1/query", params={"query": query, "time": when}, **PATIENT)
    return {
        tuple(sorted(each["metric"].items())): each["value"][1] for each in data(response)["result"]
    }


def ranged(at: str, query: str, times: tuple[float, float, float]) -> Answer:
    start, end, step = times
    parameters = {"query": query, "start": start, "end": end, "step": step}
    response = httpx.get(f"{at}/api/v1/query_range", params=parameters, **PATIENT)
    return {
        tuple(sorted(each["metric"].items())): dict(each["values"])
        for each in data(response)["result"]
    }


def until(check: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(0.1)
    raise AssertionError(what)


@pytest.mark.slow
def test_page_that_prometheus_scrapes_and_our_answers_agree(
    metrics: Metrics, tmp_path: Path
) -> None:
    metrics.declare("took.seconds", "histogram", buckets=[0.1, 1, 10])
    for number in range(50):
        tags = {"queue": "ab"[number % 2], "my-key": 'x"\n\\', "empty": ""}
        metrics.increment("jobs", number / 2, tags=tags)
        metrics.increment("a.b-c", tags={"host.name": "é"})
        metrics.gauge("depth", 1e-9 * number, tags=tags)
        metrics.histogram("took.seconds", number / 3, tags=tags)
    metrics.flush()
    port = free_port()
    labels = {"job": "api", "instance": f"127.0.0.1:{port}"}
    config = f"""
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: api
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
    app = create_app(metrics, external_labels=labels)
    with running(app, port) as ours, running_prometheus(tmp_path, config) as theirs:
        query = f'{{job="api", {OWN}}}'
        until(lambda: instant(theirs, query, time.time()), "Prometheus scraped nothing")
        when = time.time()
        expected = instant(theirs, query, when)
        assert len(expected) == 2 + 1 + 2 + 2 * (4 + 2)
        assert instant(ours, query, when) == expected
        for selector in (
            '{queue="a"}',
            '{__name__=~"took_seconds_.+", le!="+Inf"}',
            'jobs_total{queue!~"a|c"}',
            "{tag_my_key!=''}",
            'a_b_c_total{host_name="é"}',
        ):
            assert instant(ours, selector, when) == instant(theirs, selector, when), selector


@pytest.mark.slow
def test_series_written_by_prometheus_give_its_own_answers(
    metrics: Metrics, tmp_path: Path
) -> None:
    with running(create_app(metrics, allow_write=True)) as ours:
        config = f"""
global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}
scrape_configs:
  - job_name: itself
    static_configs: [{{targets: ["SELF"]}}]
    metric_relabel_configs:
      # Quantiles without observations are NaN, which is refused.
      - {{source_labels: [__name__], regex: "{KEPT}", action: keep}}
remote_write:
  - url: {ours}/api/v1/write
    queue_config: {{batch_send_deadline: 1s}}
"""
        port_holder = free_port()
        config = config.replace("SELF", f"127.0.0.1:{port_holder}")
        with running_prometheus(tmp_path, config, port=port_holder) as theirs:
            seconds = seconds_beside(10)
            scrapes = "count_over_time(up[1h])"
            until(
                lambda: any(
                    float(count) >= 2 * seconds
                    for count in instant(theirs, scrapes, time.time()).values()
                ),
                "it scraped too few times",
                PATIENCE + 2 * seconds,
            )
            end = math.floor(time.time()) - 3
            # Not at the beginning: of a series that begins, 2.42 extrapolates more than 3.
            times = (end - seconds + 8, end, 1)
            gauges = '{job="itself", __name__!~".+_(total|bucket)"}'
            until(
                lambda: len(instant(ours, "process_start_time_seconds", end)) == 1,
                "nothing was written",
            )
            expected = ranged(theirs, gauges, times)
            assert len(expected) > 20
            assert ranged(ours, gauges, times) == expected
            for query in (
                'rate(prometheus_http_requests_total{handler="/metrics"}[3s])',
                "increase(process_cpu_seconds_total[3s])",
                'rate(prometheus_http_request_duration_seconds_bucket{handler="/metrics"}[3s])',
                "avg_over_time(go_memstats_alloc_bytes[2s])",
                "up",
            ):
                expected, found = ranged(theirs, query, times), ranged(ours, query, times)
                assert set(found) == set(expected), query
                for key, values in expected.items():
                    wanted = {at: pytest.approx(float(each)) for at, each in values.items()}
                    assert {at: float(each) for at, each in found[key].items()} == wanted, query


@pytest.mark.slow
def test_promtool_is_a_client(prometheus: Any, recorded: Metrics) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("needs the program promtool: apt-get install prometheus")
    at = str(prometheus.base_url).removesuffix("/api/v1/")

    def ask(*arguments: str) -> str:
        command = ["promtool", "query", arguments[0], at, *arguments[1:]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    when = str(BASE + 3600)
    found = ask("instant", "--time", when, "sum(increase(jobs_total[1h]))")
    assert found == f"{{}} => 720 @[{when}]\n"
    found = ask("range", "--start", when, "--end", f"{when}.5", "--step", "1m", "jobs_total")
    assert found.count(f"360 @[{when}]") == 2
    assert ask("series", "--match", "depth").count("depth") == 2
    assert ask("labels", "queue") == "a\nb\n"
