"""`demo`: at a terminal, in a pipe, as JSON, and stopped in all ways."""

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from redismetrics.cli.demo_run import Call, DemoResult
from tests.fixtures.home import Home, needs_server
from tests.fixtures.servers import PROCESS_PATIENCE

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="this system has no /proc to look in"
)


needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed (Debian package: prometheus)",
)


# What pip makes from [project.scripts].
CONSOLE_SCRIPT = """
import sys
from redismetrics.__main__ import main
if __name__ == '__main__':
    sys.exit(main())
"""


@pytest.fixture(scope="module")
def outcome(home: Home) -> dict[str, Any]:
    code, out, err = home.run("demo", "--seconds", "2", "--json")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.slow
@needs_server
def test_the_demo_stores_exactly_what_its_four_processes_recorded(outcome: dict[str, Any]) -> None:
    assert outcome["processes"] == len(outcome["recorded_by"]) == 4
    assert all(count > 1000 for count in outcome["recorded_by"].values())
    assert outcome["stored"] == outcome["recorded"] == sum(outcome["recorded_by"].values())
    assert (outcome["dropped"], outcome["exact"]) == (0, True)
    assert outcome["samples_per_second"] == pytest.approx(
        outcome["recorded"] / outcome["seconds"], rel=0.01
    )


@pytest.mark.slow
@needs_server
def test_the_demo_shows_the_call_of_each_result(outcome: dict[str, Any]) -> None:
    results = outcome["results"]
    assert {
        name: re.match(r"metrics\.(\w+)\(", each["call"])[1] for name, each in results.items()
    } == {  # type: ignore[index]
        "mean_by_model": "query",
        "p95_by_endpoint": "query",
        "jobs_over_time": "time_series",
        "rollup": "rollup",
    }
    assert [row["model"] for row in results["mean_by_model"]["result"]] == [
        "llama-3.1",
        "mistral",
        "qwen",
    ]
    p95 = {row["endpoint"]: row["p95"] for row in results["p95_by_endpoint"]["result"]}
    assert p95["/health"] < p95["/api"] < p95["/search"] < p95["/upload"]


@pytest.mark.slow
@needs_server
def test_the_page_of_the_demo_agrees_with_its_queries(outcome: dict[str, Any]) -> None:
    families = {family.name: family for family in parse_text(outcome["page"])}
    assert {name: family.type for name, family in families.items()} == {
        "experiment_result": "histogram",
        "jobs_completed": "counter",
        "queue_depth": "gauge",
        "response_time_seconds": "histogram",
    }
    assert all(family.documentation for family in families.values())
    jobs = sum(sample.value for sample in families["jobs_completed"].samples)
    assert jobs == sum(row["sum"] for row in outcome["results"]["jobs_over_time"]["result"])
    counts = {
        f"{sample.labels['model']}/{sample.labels['dataset']}": sample.value
        for sample in families["experiment_result"].samples
        if sample.name.endswith("_count")
    }
    assert counts == {
        group: row["count"] for group, row in outcome["results"]["rollup"]["result"].items()
    }
    assert {sample.labels["queue"] for sample in families["queue_depth"].samples} == {
        "ingest",
        "mail",
        "reports",
        "sno_validation",
    }


@pytest.mark.slow
@needs_server
@needs_promtool
def test_promtool_accepts_the_page_of_the_demo(outcome: dict[str, Any]) -> None:
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=outcome["page"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.slow
@needs_server
@needs_proc
def test_the_demo_at_a_terminal_shows_a_bar_and_tables(home: Home) -> None:
    """Run like pip's console script, from a file that the spawned processes import again."""
    script = home.folder / "redismetrics"
    script.write_text(CONSOLE_SCRIPT)
    code, out = at_a_terminal(home, [sys.executable, str(script), "demo", "--seconds", "1"])
    assert code == 0, out
    assert "\x1b[?25l" in out
    assert "\x1b[?25h" in out.rpartition("\x1b[?25l")[2], "the cursor is back"
    bars = re.findall(r"recording.*?━.*?(\d\.\d) s.*?([\d,]+) *\S* samples", out)
    assert float(bars[0][0]) < float(bars[-1][0]) == 1.0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out)
    assert re.search(
        r"\d\d:\d\d:\d\d\.\d{3}  jobs_completed +status=\w+ tenant=\w+ +1 x [\d,]+", text
    ), "the stream"
    assert re.search(
        r"\.query\(\"experiment_result\", .*\r\n\s+model +mean *\r\n ─+ *\r\n  llama-3.1 +0\.\d+",
        text,
    )
    # An interval that the run only touched has no bar.
    row = r"  \d\d:\d\d:\d\d[^\r]*\r\n"
    assert re.search(
        rf"\.time_series\(.*\r\n\r\n(?:{row})*?  \d\d:\d\d:\d\d +[█▏▎▍▌▋▊▉]+ +[\d,]+", text
    )
    assert re.search(r"print\(export.*\r\n\r\n  # HELP experiment_result ", text)
    stored = re.search(
        r"4 processes recorded ([\d,]+) samples.*\s+Stored: \1, exactly what was recorded", text
    )
    assert stored, text[-500:]
    home.assert_nothing_is_left()


def at_a_terminal(home: Home, command: list[str]) -> tuple[int, str]:
    """Run *command* in a pseudo-terminal of 50 x 120; return its status and all that it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
    environment = {key: value for key, value in home.environment.items() if key != "COLUMNS"}
    out = b""
    with subprocess.Popen(
        command,
        cwd=home.folder,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # the end, on Linux
                break
            if not data:
                break
            out += data
    os.close(ours)
    return process.returncode, out.decode()


@pytest.mark.slow
@needs_server
@needs_proc
def test_the_demo_in_a_pipe_prints_plain_lines_and_the_pipe_may_close(home: Home) -> None:
    with home.start("demo", "--seconds", "1") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if " samples " in line:
                break
        process.stdout.close()
        process.wait(PROCESS_PATIENCE)
        assert process.stderr.read() == ""
    assert "\x1b" not in "".join(lines)
    assert re.match(r" +[\d,]+ samples +\d\d:\d\d:\d\d\.\d{3}  \w+ ", lines[-1])
    home.assert_nothing_is_left()


@pytest.mark.slow
@needs_server
@needs_proc
@pytest.mark.parametrize(
    ("number", "send", "code", "message"),
    [
        (signal.SIGINT, os.killpg, 130, "Stopped. Nothing is left behind.\n"),
        (signal.SIGTERM, os.kill, 128 + signal.SIGTERM, ""),
        (signal.SIGKILL, os.kill, -signal.SIGKILL, ""),
    ],
    ids=["ctrl-c", "terminated", "killed"],
)
def test_a_stopped_demo_leaves_nothing_behind(
    home: Home, number: int, send: Any, code: int, message: str
) -> None:
    with home.start("demo", "--seconds", "60", start_new_session=True) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if " samples " in line)
        send(process.pid, number)
        out, err = process.communicate(timeout=PROCESS_PATIENCE)
    assert (process.returncode, err) == (code, message)
    assert ">>> metrics.query" not in out
    home.assert_nothing_is_left(but_the_folder=number == signal.SIGKILL)
    for path in home.temporary.iterdir():
        shutil.rmtree(path)


@pytest.mark.slow
@needs_server
@needs_proc
def test_a_demo_that_loses_a_process_reports_it(home: Home) -> None:
    with home.start("demo", "--seconds", "60") as process:
        assert process.stdout is not None
        next(line for line in process.stdout if " samples " in line)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        spawned = [
            each for each in children if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()
        ]
        assert len(spawned) == 4
        os.kill(int(spawned[2]), signal.SIGKILL)
        _, err = process.communicate(timeout=PROCESS_PATIENCE)
    assert (process.returncode, err) == (
        1,
        "redismetrics: a process of the demo ended too early\n",
    )
    home.assert_nothing_is_left()


def test_a_lost_or_duplicated_sample_is_detected() -> None:
    def outcome(stored: int, dropped: int = 0) -> bool:
        return DemoResult({"a": 3, "b": 4}, dropped, Call("", stored), 1.0, {}, Call("", "")).exact

    assert outcome(7)
    assert not any((outcome(6), outcome(8), outcome(7, dropped=1)))


@pytest.mark.slow
@needs_server
def test_an_alert_fires_and_is_resolved(outcome: dict[str, Any]) -> None:
    pytest.importorskip("promql_parser", reason="needs redismetrics[alerts]")
    alerts = outcome["alerts"]
    tenants = {each["labels"]["tenant"] for each in alerts}
    assert tenants == {"cns", "crucible", "tinkex"}
    assert [(each["before"], each["after"]) for each in alerts[:3]] == [("inactive", "firing")] * 3
    assert [(each["before"], each["after"]) for each in alerts[3:]] == [("firing", "inactive")] * 3
