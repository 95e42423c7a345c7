"""Runs: curves by elapsed time or metadata, and the figures of each run."""

from typing import Any

import numpy as np
import pytest

from redismetrics import InvalidQuery, Metrics, TooManyRows
from redismetrics.queries.runs import _thinned
from tests.fixtures.training import STEP, loss, start, train

STEPS = range(0, 400, 10)


@pytest.fixture
def trained(metrics: Metrics) -> Metrics:
    """Two runs of 40 steps; the second began 60 s after the first."""
    metrics.declare("loss", "gauge", exact_samples=True)
    began = start(600)
    train(metrics, [1], STEPS, began)
    train(metrics, [2], STEPS, began + 60)
    metrics.flush()
    return metrics


def by_run(metrics: Metrics, **query: Any) -> dict[Any, dict[str, Any]]:
    found = metrics.runs("loss", **{"group_by": "run", **query})
    return {run["tags"].get("run"): run for run in found}


def test_curves_by_step_equal_the_recorded_values(trained: Metrics) -> None:
    found = by_run(trained, x="metadata.step")
    assert list(found) == ["r2", "r1"]
    for number in (1, 2):
        run = found[f"r{number}"]
        assert run["x"] == [float(step) for step in STEPS]
        assert run["y"] == [loss(number, step) for step in STEPS]


def test_curves_by_elapsed_time_begin_at_0_and_those_by_time_do_not(trained: Metrics) -> None:
    elapsed, time = by_run(trained), by_run(trained, x="time")
    for run in elapsed.values():
        assert run["x"] == pytest.approx([step * STEP for step in STEPS], abs=0.0011)
    for name, run in time.items():
        assert run["x"][0] == run["since"].timestamp()
        assert run["x"][-1] == run["until"].timestamp()
        assert run["y"] == elapsed[name]["y"]
    assert time["r2"]["x"][0] - time["r1"]["x"][0] == 60


def test_figures_are_those_of_other_queries(trained: Metrics) -> None:
    names = ("count", "sum", "last", "min", "max")
    rollup = trained.rollup("loss", group_by="run", aggregations=names, window=None)
    for name, run in by_run(trained, points=10).items():
        assert {key: run[key] for key in names} == rollup[name]
        assert run["seconds"] == (run["until"] - run["since"]).total_seconds()
        assert run["seconds"] == pytest.approx(STEPS[-1] * STEP, abs=0.0011)


def test_long_curves_keep_their_ends_and_extremes(trained: Metrics) -> None:
    values = [loss(1, step) for step in STEPS]
    run = by_run(trained, x="metadata.step", points=10, tags={"run": "r1"})["r1"]
    assert len(run["x"]) <= 10
    assert (run["x"][0], run["x"][-1]) == (STEPS[0], STEPS[-1])
    assert {min(values), max(values), values[0], values[-1]} <= set(run["y"])
    assert all(loss(1, int(step)) == value for step, value in zip(run["x"], run["y"], strict=True))


@pytest.mark.parametrize("count", [1, 9, 10, 11, 12, 99, 1000, 1001])
def test_thinned_positions_are_few_and_ascending(count: int) -> None:
    values = np.random.default_rng(count).normal(size=count)
    places = _thinned(values, 10)
    assert len(places) <= 10
    assert (places[0], places[-1]) == (0, count - 1)
    assert (np.diff(places) > 0).all()
    assert {int(values.argmin()), int(values.argmax())} <= set(places.tolist())


def test_the_newest_of_samples_with_the_same_step_counts(metrics: Metrics) -> None:
    began = start(600)
    metrics.declare("loss", "gauge", exact_samples=True)
    for at, (step, value) in enumerate([(0, 5), (1, 4), (2, 9), (1, 3), (2, 2.5)]):
        tags, moment = {"run": "r1"}, began + at
        metrics.gauge("loss", value, tags=tags, metadata={"step": step}, timestamp=moment)
    # Without a step, of another type, or missing: not in the curve, but in the figures.
    for at, other in enumerate([{}, {"step": "3"}, {"step": True}, {"step": None}, {"epoch": 7}]):
        metrics.gauge("loss", 1, tags={"run": "r1"}, metadata=other, timestamp=began + 10 + at)
    run = by_run(metrics, x="metadata.step")["r1"]
    assert (run["x"], run["y"]) == ([0, 1, 2], [5, 3, 2.5])
    assert (run["count"], run["min"], run["seconds"]) == (10, 1, 14)
    assert by_run(metrics, x="metadata.epoch")["r1"]["x"] == [7]
    assert by_run(metrics, x="metadata.nothing")["r1"]["x"] == []


def test_values_of_a_counter_are_its_total_so_far(metrics: Metrics) -> None:
    began = start(600)
    for at, count in enumerate([3, 4, 5]):
        metrics.increment("tokens", count, tags={"run": "r1"}, timestamp=began + 10 * at)
    (run,) = metrics.runs("tokens", group_by="run")
    assert (run["x"], run["y"], run["sum"]) == ([0, 10, 20], [3, 7, 12], 12)


def test_compressed_samples_are_one_point_with_their_mean(metrics: Metrics) -> None:
    began = start(600)
    for number in range(300):
        metrics.histogram("took", number, timestamp=began + number / 10)
    metrics.flush()
    (run,) = metrics.runs("took")
    assert (run["tags"], run["count"], run["min"], run["max"]) == ({}, 300, 0, 299)
    assert len(run["y"]) == 1
    assert run["y"][0] == pytest.approx(299 / 2)


def test_newest_runs_come_first_within_the_limit(metrics: Metrics) -> None:
    began = start(600)
    for number in (3, 1, 2):
        metrics.gauge("loss", number, tags={"run": f"r{number}"}, timestamp=began + number)
    metrics.gauge("loss", 9, timestamp=began)
    metrics.flush()
    assert list(by_run(metrics)) == ["r3", "r2", "r1", None]
    assert list(by_run(metrics, limit=2)) == ["r3", "r2"]
    assert list(by_run(metrics, window=(began + 2, began + 3))) == ["r2"]
    assert list(by_run(metrics, tags={"run": None})) == [None]
    assert metrics.runs("nothing") == []
    assert metrics.runs("loss", window=(began - 9, began - 8)) == []


def test_whole_runs_are_those_of_the_window_from_their_beginning(trained: Metrics) -> None:
    everything = by_run(trained)
    # The second run goes on in this window, the first has ended before.
    middle = everything["r2"]["since"].timestamp() + STEPS[20] * STEP
    window = middle, middle + 600
    assert list(by_run(trained, window=window)) == ["r2"]
    assert by_run(trained, window=window)["r2"]["count"] == 20
    assert by_run(trained, window=window, whole=True) == {"r2": everything["r2"]}
    # Up to the end of the window.
    cut = by_run(trained, window=(middle - 1, middle), whole=True, x="metadata.step")["r2"]
    assert (cut["count"], cut["x"][0], cut["x"][-1]) == (20, STEPS[0], STEPS[19])
    whole = {"whole": True, "limit": 1}
    assert by_run(trained, **whole) == {"r2": everything["r2"]}
    assert by_run(trained, tags={"run": "r1"}, **whole) == {"r1": everything["r1"]}
    assert by_run(trained, window=(middle + 900, middle + 999), whole=True) == {}
    (all_series,) = trained.runs("loss", window=window, whole=True)
    assert all_series["count"] == 80


def test_points_of_all_curves_are_bounded(trained: Metrics) -> None:
    trained.internals.limit_rows(70)
    with pytest.raises(TooManyRows):
        by_run(trained)
    assert len(by_run(trained, points=30)) == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"x": "step"}, "x must be time, elapsed, or metadata. and a key"),
        ({"x": "metadata."}, "x must be"),
        ({"x": None}, "x must be"),
        ({"x": "metadata." + "k" * 201}, "x must be"),
        ({"points": 9}, "points must be a whole number from 10 to 2000, got 9"),
        ({"points": True}, "points must be"),
        ({"points": 2001}, "points must be"),
        ({"limit": 0}, "limit must be"),
        ({"group_by": 7}, "group_by must be"),
    ],
)
def test_wrong_arguments(metrics: Metrics, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidQuery, match="^" + message):
        metrics.runs("loss", **wrong)
