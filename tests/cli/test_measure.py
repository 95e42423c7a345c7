"""`measure`: the duration of another command."""

import signal
import sys
from pathlib import Path

import pytest

from redismetrics import Metrics
from tests.fixtures.servers import PATIENCE, PROCESS_PATIENCE
from tests.fixtures.shell import Shell


@pytest.mark.slow
def test_measure_exits_with_the_status_of_its_command(shell: Shell, metrics: Metrics) -> None:
    code = "import sys, time; time.sleep(0.2); print(sys.stdin.read()); sys.exit(7)"
    done = shell.process(
        "measure",
        "backup",
        "-t",
        "disk=a",
        "--outcome-tag",
        "status",
        "--",
        sys.executable,
        "-c",
        code,
        given="hello",
    )
    assert done == (7, "hello\n", "")
    assert shell.process("measure", "backup", "--outcome-tag", "status", "--", "true") == (
        0,
        "",
        "",
    )
    first, second = metrics.query("backup")
    assert (first.tags, second.tags) == ({"disk": "a", "status": "failed"}, {"status": "ok"})
    assert 200 <= first.value < 30_000
    assert second.value < first.value
    assert [(row["type"], row["unit"]) for row in metrics.list_metrics()] == [
        ("histogram", "milliseconds")
    ]


@pytest.mark.slow
def test_measure_records_in_the_unit_of_the_metric(shell: Shell, metrics: Metrics) -> None:
    metrics.declare("job_seconds", "histogram", unit="seconds")
    metrics.histogram("job_seconds", 1000)
    metrics.flush()
    assert shell.process("measure", "job_seconds", "--", "sleep", "0.1")[0] == 0
    assert 0.1 <= metrics.query("job_seconds", aggregation="min") < PROCESS_PATIENCE


def test_measure_records_in_seconds_if_the_name_says_so(
    shell: Shell, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redismetrics.cli.measure.perf_counter", iter([1.0, 1.5]).__next__)
    assert shell("measure", "new_seconds", "--", "true")[0] == 0
    assert [(row["name"], row["unit"]) for row in metrics.list_metrics()] == [
        ("new_seconds", "seconds")
    ]
    assert metrics.query("new_seconds", aggregation="sum") == 0.5


@pytest.mark.slow
def test_a_failed_recording_does_not_change_the_exit_status(shell: Shell, tmp_path: Path) -> None:
    status, out, err = shell.process(
        "measure", "x", "--url", "redis://127.0.0.1:1/0", "--", "sh", "-c", "echo done; exit 5"
    )
    assert (status, out) == (5, "done\n")
    assert err.startswith("redismetrics: x was not recorded: ")
    assert err.count("\n") == 1
    assert shell.process("measure", "x", "--", "no-such-command-here") == (
        127,
        "",
        "redismetrics: no-such-command-here: no such command\n",
    )
    assert shell.process("measure", "x", "--", str(tmp_path))[0] == 126
    ran = tmp_path / "ran"
    assert shell.process("measure", "a b", "--", "touch", str(ran))[0] == 2
    assert not ran.exists(), "a wrong name is an error before the command runs"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_measure_forwards_signals(shell: Shell, metrics: Metrics, number: signal.Signals) -> None:
    code = (
        "import signal, sys\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(9))\n"
        "print('ready', flush=True)\n"
        "signal.pause()"
    )
    with shell.start(
        "measure",
        "service",
        "--outcome-tag",
        "end",
        "--",
        sys.executable,
        "-c",
        code,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)  # only to this process
        assert process.communicate(timeout=PATIENCE) == ("", "")
    assert process.returncode == 9
    assert metrics.query("service", aggregation="count", tags={"end": "failed"}) == 1


@pytest.mark.slow
def test_measure_reports_death_by_signal_as_a_shell_does(shell: Shell) -> None:
    assert shell.process("measure", "x", "--", "sh", "-c", "kill -9 $$")[0] == 137
