"""The command runs."""

import json
from typing import Any

import pytest

from redismetrics import Metrics
from tests.fixtures.shell import Shell
from tests.fixtures.training import start, train


@pytest.fixture
def trained(metrics: Metrics) -> Metrics:
    metrics.declare("loss", "gauge", exact_samples=True)
    train(metrics, [1, 2], range(0, 200, 10), start(600))
    metrics.flush()
    return metrics


def test_runs_are_those_of_the_client(shell: Shell, trained: Metrics) -> None:
    def same(found: Any, **query: Any) -> None:
        answer = trained.runs("loss", **query)
        assert answer
        assert found == json.loads(Metrics.to_json(answer))

    same(shell.json("runs", "loss", "-g", "run"), group_by="run")
    found = shell.json("runs", "loss", "--x", "metadata.step", "-t", "run=r1", "--points", "12")
    same(found, x="metadata.step", tags={"run": "r1"}, points=12)
    same(shell.json("runs", "loss", "-g", "run", "--limit", "1"), group_by="run", limit=1)
    since = trained.runs("loss")[0]["since"].timestamp() + 3
    window = since, None
    found = shell.json("runs", "loss", "-g", "run", "--whole", "--since", str(since))
    same(found, group_by="run", window=window, whole=True)
    assert [run["count"] for run in found] == [20, 20]
    found = shell.json("runs", "loss", "-g", "run", "--since", str(since))
    assert all(run["count"] < 20 for run in found)


def test_a_pipe_gets_figures_and_a_wrong_x_is_an_error(shell: Shell, trained: Metrics) -> None:
    status, out, err = shell("runs", "loss", "-g", "run")
    assert (status, err) == (0, "")
    head, *rows = [line.split("\t") for line in out.splitlines()]
    assert head == ["run", "last", "min", "max", "count", "seconds"]
    figures = trained.runs("loss", group_by="run")
    assert rows == [[run["tags"]["run"], *(str(run[name]) for name in head[1:])] for run in figures]
    status, out, err = shell("runs", "loss", "--x", "step")
    assert (status, out) == (2, "")
    assert "x must be time, elapsed, or metadata. and a key" in err


@pytest.mark.slow
def test_a_terminal_gets_curves(shell: Shell, trained: Metrics) -> None:
    status, out = shell.at_a_terminal("runs", "loss", "-g", "run", "--x", "metadata.step")
    assert status == 0
    rows = [line.split() for line in out.splitlines() if " r1 " in line or " r2 " in line]
    assert len(rows) == 2
    for curve in (row[-1] for row in rows):
        # A loss goes down.
        assert (len(curve), curve[0]) == (20, "█")
        assert curve[-1] < curve[0]
