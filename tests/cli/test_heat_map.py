"""The command heat-map: JSON, lines for pipes, and a map on a terminal."""

import json
import time

import pytest

from redismetrics import Metrics
from tests.fixtures.shell import Shell

# A whole hour that is past.
SINCE = int(time.time()) // 3600 * 3600 - 7200
EDGES = ("--since", str(SINCE), "--until", str(SINCE + 180), "-i", "minute")


@pytest.fixture
def took(shell: Shell, metrics: Metrics) -> Metrics:
    for minute, values in enumerate(([1.0], [1.5, 9.0, 9.0, 9.0], [])):
        for value in values:
            metrics.histogram("took", value, timestamp=SINCE + 60 * minute)
    metrics.flush()
    return metrics


def test_json_is_the_result_of_the_api(shell: Shell, took: Metrics) -> None:
    expected = took.heat_map(
        "took", interval="minute", window=(SINCE, SINCE + 180), tags={"a": None}, buckets=8
    )
    found = shell.json("heat-map", "took", *EDGES, "--buckets", "8", "-t", "!a")
    assert found == json.loads(Metrics.to_json(expected))


def test_a_pipe_gets_a_line_for_each_bucket_with_samples(shell: Shell, took: Metrics) -> None:
    status, out, _ = shell("heat-map", "took", *EDGES, "--buckets", "4")
    assert status == 0
    head, *lines = out.splitlines()
    assert head == "timestamp\tfrom\tto\tcount"
    assert [line.split("\t")[1:] for line in lines] == [
        ["1.0", "2.0", "1"],
        ["1.0", "2.0", "1"],
        ["8.0", "16.0", "3"],
    ]
    assert shell("heat-map", "took", "--since", "1m", "--until", "30s") == (0, "", "")
    status, _, err = shell("heat-map", "nosuch")
    assert (status, err.startswith("redismetrics: no metric 'nosuch'")) == (1, True)


@pytest.mark.slow
def test_a_terminal_gets_a_map(shell: Shell, took: Metrics) -> None:
    status, screen = shell.at_a_terminal("heat-map", "took", *EDGES, "--buckets", "4")
    assert status == 0
    lines = [line.rstrip() for line in screen.splitlines()]
    assert lines[:4] == ["   8   █", "   4", "   2", "   1  ▓▓"]
    assert lines[4].endswith("UTC, 3 intervals; █ is 3")
