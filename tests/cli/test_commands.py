"""The commands that record, ask, delete and stream: real processes, a real server, and the answers of the API beside theirs."""

import io
import json
import logging
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.cli import options as options_module
from redismetrics.cli.main import run
from redismetrics.cli.printing import bars, cell, plain, sparkline
from redismetrics.model.time import to_datetime
from tests.fixtures.servers import PATIENCE, Server

ROOT = Path(__file__).parents[2]

Done = tuple[int, str, str]


class Shell:
    """Runs commands in a namespace of a store; a call gives exit status, stdout, stderr.

    A call runs it in this process, since starting one takes a second; `process`, `start` and `at_a_terminal` in one of its own.
    """

    def __init__(self, url: str, namespace: str) -> None:
        self.environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100", "PYTHONIOENCODING": "utf-8",
            "REDISMETRICS_URL": url, "REDISMETRICS_NAMESPACE": namespace,
        }  # fmt: skip
        for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            self.environment.pop(name, None)

    def start(self, *args: str, **options: Any) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "redismetrics", *args], env=self.environment, text=True, encoding="utf-8",
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )  # fmt: skip

    def __call__(self, *args: str, given: str = "") -> Done:
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        logger = logging.getLogger("redismetrics")
        level = logger.level
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name in ("REDISMETRICS_URL", "REDISMETRICS_NAMESPACE"):
                patch.setenv(name, self.environment[name])
            patch.setattr(sys, "stdin", io.StringIO(given))
            try:
                status = run(args)
            except SystemExit as ended:  # of argparse
                status = ended.code  # type: ignore[assignment]
            finally:
                logger.setLevel(level)
        return status, out.buffer.getvalue().decode(), err.buffer.getvalue().decode()  # type: ignore[attr-defined]

    def process(self, *args: str, given: str | None = None) -> Done:
        with self.start(*args, **({} if given is None else {"stdin": subprocess.PIPE})) as process:
            out, err = process.communicate(given, timeout=60)
        return process.returncode, out, err

    def json(self, *args: str) -> Any:
        status, out, err = self(*args, "--json")
        assert (status, err) == (0, "")
        assert out.count("\n") == 1
        return json.loads(out)

    def at_a_terminal(self, *args: str, keys: str = "") -> tuple[int, str]:
        """Exit status, and what is written to a terminal, colours and the like taken out."""
        ours, theirs = pty.openpty()
        os.write(ours, keys.encode())
        out = b""
        with self.start(
            *args, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        ) as process:
            os.close(theirs)
            try:
                while data := os.read(ours, 65536):
                    out += data
            except OSError:  # how Linux tells the end
                pass
        os.close(ours)
        return process.returncode, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.decode()).replace(
            "\r\n", "\n"
        )


@pytest.fixture
def shell(url: str, namespace: str) -> Shell:
    return Shell(url, namespace)


@pytest.fixture
def metrics(url: str, namespace: str) -> Iterator[Metrics]:
    with Metrics(url, namespace=namespace) as client:
        yield client


# -- recording ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_is_recorded_is_stored_when_the_command_ends(shell: Shell, metrics: Metrics) -> None:
    assert shell.process("increment", "orders", "3", "--tag", "shop=de", "-t", "paid=yes") == (
        0,
        "",
        "",
    )
    assert shell("increment", "orders") == (0, "", "")
    assert metrics.query("orders", aggregation="sum", group_by=("shop", "paid")) == [
        {"shop": None, "paid": None, "sum": 1},
        {"shop": "de", "paid": "yes", "sum": 3},
    ]
    assert shell("gauge", "temperature", "-7.5") == (0, "", "")
    assert metrics.query("temperature", aggregation="last") == -7.5
    assert shell("record", "loss", "0.25", "--metadata", '{"epoch": 3}', "--timestamp", "2h") == (
        0,
        "",
        "",
    )
    (loss,) = metrics.query("loss")
    assert (loss.type, loss.value, loss.metadata) == ("histogram", 0.25, {"epoch": 3})
    assert abs(time.time() - 7200 - loss.timestamp.timestamp()) < 60
    assert shell("record", "seen", "--type", "gauge") == (0, "", "")
    (seen,) = metrics.query("seen")
    assert (seen.type, seen.value) == ("gauge", 1.0)


@pytest.mark.slow
def test_numbers_come_from_standard_input(shell: Shell, metrics: Metrics) -> None:
    given = "".join(f"{value / 2}\n\n" for value in range(1000))
    assert shell.process("histogram", "sizes", "-", "--tag", "disk=a", given=given) == (0, "", "")
    found = metrics.rollup("sizes", aggregations=("count", "sum", "max"))[""]
    assert found == {"count": 1000, "sum": 249750.0, "max": 499.5}
    status, out, err = shell("increment", "lines", "-", given="1\n2\nthree\n4\n")
    assert (status, out) == (2, "")
    assert err.startswith("redismetrics: line 3 of standard input: value must be a number")
    assert err.endswith("got 'three'; the 2 values before it were recorded\n")
    assert metrics.query("lines", aggregation="sum") == 3


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("increment", "a b"), "invalid metric name 'a b'"),
        (("increment", "orders", "-1"), "'orders'"),
        (("gauge", "depth", "nan"), "finite"),
        (
            ("gauge", "depth", "many"),
            "value must be a number, or - to read numbers from standard input, got 'many'",
        ),
        (("gauge", "depth", "1", "--tag", "shop"), "--tag must be K=V, got 'shop'"),
        (
            ("gauge", "depth", "1", "--tag", "a=1", "--tag", "a=2"),
            "--tag must have one value for 'a', got '1' and '2'",
        ),
        (("record", "x", "--metadata", "[1]"), "--metadata must be a JSON object, got '[1]'"),
        (("record", "x", "--type", "sum"), "type must be counter, gauge or histogram, got 'sum'"),
        (("increment", "x", "--timestamp", "30h"), "samples were dropped, by reason: 1 too_old"),
        (("increment", "x", "--timestamp", "noon"), "--timestamp must be Unix seconds"),
        (("query", "x", "-a", "p101"), "unknown aggregation 'p101'"),
        (("query", "x", "-w", "1y"), "window must be"),
        (
            ("query", "x", "-w", "1h", "--since", "2h"),
            "--window cannot be used together with --since or --until",
        ),
        (
            ("query", "x", "--since", "2026-01-01T00:00:00"),
            "--since must be Unix seconds, ISO 8601 with a time zone",
        ),
        (("list", "--namespace", "a b"), "namespace must be"),
        (("list", "--url", "http://x"), "url must start with"),
        (
            ("top", "--sort", "colour"),
            "--sort must be one of name, type, series, rate, last, p95, got 'colour'",
        ),
        (("subscribe", "a b"), "got 'a b'"),
        (("clear",), "pass --yes to proceed"),
        (("measure", "x"), "(see redismetrics measure --help)"),
        (("qery",), "Did you mean 'query'? (see redismetrics --help)"),
        (("query", "x", "--windo", "1h"), "--window"),
        (("gauge", "x", "1", "--tagg", "a=b"), "did you mean '--tag'?"),
        (("top", "--sort", "nam"), "did you mean 'name'?"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_exit_status_2(
    shell: Shell, wrong: tuple[str, ...], said: str
) -> None:
    status, out, err = shell(*wrong)
    assert (status, out) == (2, ""), err
    assert err.startswith("redismetrics: ")
    assert err.count("\n") == 1
    assert said in err


def test_a_metric_of_another_type_is_refused(shell: Shell, metrics: Metrics) -> None:
    metrics.increment("orders")
    metrics.flush()
    assert shell("gauge", "orders", "3") == (
        2,
        "",
        "redismetrics: 'orders' is a counter; got a gauge\n",
    )
    assert metrics.query("orders", aggregation="sum") == 1


def test_a_store_that_is_away_is_one_sentence_that_says_what_to_do(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options_module, "FLUSH_SECONDS", 0.3)
    for command in (("increment", "x"), ("query", "x"), ("subscribe",), ("top", "--once")):
        status, out, err = shell(*command, "--url", "redis://user:geheim@127.0.0.1:1/0")
        assert (status, out) == (1, "")
        assert err.count("\n") == 1
        assert "127.0.0.1:1" in err
        assert "is Redis running? Set another server with --url or REDISMETRICS_URL" in err
        assert "geheim" not in err


# -- measure ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_measure_runs_a_command_and_ends_as_it_did(shell: Shell, metrics: Metrics) -> None:
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


def test_measure_goes_by_the_unit_of_the_metric(shell: Shell, metrics: Metrics) -> None:
    metrics.declare("job_seconds", "histogram", unit="seconds")
    metrics.histogram("job_seconds", 1000)
    metrics.flush()
    assert shell.process("measure", "job_seconds", "--", "sleep", "0.1")[0] == 0
    assert 0.1 <= metrics.query("job_seconds", aggregation="min") < 30


@pytest.mark.slow
def test_what_can_t_be_measured_changes_no_exit_status(shell: Shell, tmp_path: Path) -> None:
    status, out, err = shell.process(
        "measure", "x", "--url", "redis://127.0.0.1:1/0", "--", "sh", "-c", "echo done; exit 5"
    )
    assert (status, out) == (5, "done\n")
    assert err.startswith("redismetrics: x was not recorded: ")
    assert err.count("\n") == 1
    assert shell.process("measure", "x", "--", "no-such-command-here") == (
        127, "", "redismetrics: no-such-command-here: no such command\n",
    )  # fmt: skip
    assert shell.process("measure", "x", "--", str(tmp_path))[0] == 126
    ran = tmp_path / "ran"
    assert shell.process("measure", "a b", "--", "touch", str(ran))[0] == 2
    assert not ran.exists(), "a wrong name is told before the command runs"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_measure_passes_signals_on(shell: Shell, metrics: Metrics, number: signal.Signals) -> None:
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
        process.send_signal(number)  # to it alone
        assert process.communicate(timeout=PATIENCE) == ("", "")
    assert process.returncode == 9
    assert metrics.query("service", aggregation="count", tags={"end": "failed"}) == 1


@pytest.mark.slow
def test_measure_tells_a_signal_s_end_as_a_shell_does(shell: Shell) -> None:
    assert shell.process("measure", "x", "--", "sh", "-c", "kill -9 $$")[0] == 137


# -- asking -------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(metrics: Metrics) -> Metrics:
    """A client whose namespace holds a few metrics."""
    now = time.time()
    for number in range(10):
        tags = {"shop": "de" if number % 2 else "f/r", "till": str(number % 3)}
        metrics.increment("orders", number, tags=tags, timestamp=now - 60 * number)
        metrics.histogram(
            "paid",
            10.5 * number,
            tags=tags,
            timestamp=now - 60 * number,
            metadata={"order": number},
        )
    metrics.gauge("queue_depth", 4)
    metrics.flush()
    return metrics


def test_json_is_the_answer_of_the_api(shell: Shell, asked: Metrics) -> None:
    def same(found: Any, answer: Any) -> None:
        assert found == json.loads(Metrics.to_json(answer))

    since, until = time.time() - 450, time.time() + 10
    edges = ("--since", str(since), "--until", str(until))
    ask = shell.json
    same(ask("query", "orders", "-a", "sum"), asked.query("orders", aggregation="sum"))
    same(
        ask("query", "paid", "-a", "p95", "-g", "shop,till", *edges),
        asked.query("paid", aggregation="p95", group_by=("shop", "till"), window=(since, until)),
    )
    same(ask("query", "paid", "-t", "shop=de"), asked.query("paid", tags={"shop": "de"}))
    same(ask("query", "paid", "-t", "!shop"), [])
    same(
        ask(
            "time-series",
            "paid",
            "-i",
            "5m",
            "-a",
            "mean,max",
            "-a",
            "count",
            "-g",
            "shop",
            "--window",
            "1h",
        ),
        asked.time_series(
            "paid",
            interval="5m",
            aggregations=("mean", "max", "count"),
            group_by="shop",
            window="1h",
        ),
    )
    same(
        ask("time-series", "orders", "-i", "minute", *edges, "--fill"),
        asked.time_series("orders", interval="minute", window=(since, until), fill=True),
    )
    same(ask("rollup", "paid", "-g", "shop"), asked.rollup("paid", group_by="shop"))
    assert list(ask("rollup", "paid", "-g", "shop")) == ["de", "f\\/r"]
    same(
        ask("rollup", "paid", "-g", "shop", "-g", "till", "-a", "p50", "-a", "last"),
        asked.rollup("paid", group_by=("shop", "till"), aggregations=("p50", "last")),
    )
    same(ask("list"), asked.list_metrics())
    same(ask("tag-values", "orders", "till"), ["0", "1", "2"])
    found, answer = (
        ask("get-metrics", "paid", "--limit", "3"),
        asked.get_metrics(name="paid", limit=3),
    )
    same({**found, "timestamp": ""}, {**answer, "timestamp": ""})
    assert [sample["metadata"]["order"] for sample in found["metrics"]] == [0, 1, 2]
    assert ask("get-metrics", "--type", "gauge", "--since", "1h")["count"] == 1
    found, answer = ask("stats"), asked.get_stats()
    assert found.keys() == answer.keys()
    assert found["storage"]["metrics_stored"] == answer["storage"]["metrics_stored"] == 21


@pytest.mark.slow
def test_a_pipe_gets_a_number_or_tab_separated_lines(shell: Shell, asked: Metrics) -> None:
    assert shell.process("query", "orders", "-a", "sum") == (0, "45\n", "")
    assert shell("query", "paid", "-a", "mean") == (0, "47.25\n", "")
    assert shell("query", "nothing", "-a", "mean") == (0, "\n", "")
    assert shell("query", "orders", "-a", "sum", "-g", "shop") == (
        0,
        "shop\tsum\nde\t25\nf/r\t20\n",
        "",
    )
    assert shell("rollup", "orders", "-g", "shop", "-a", "sum,max") == (
        0, "shop\tsum\tmax\nde\t25\t9.0\nf/r\t20\t8.0\n", "",
    )  # fmt: skip
    status, out, _ = shell("time-series", "orders", "-i", "minute", "-a", "sum")
    assert status == 0
    rows = [f"{row['timestamp'].isoformat()}\t{row['sum']}" for row in asked.time_series(
        "orders", interval="minute", aggregation="sum")]  # fmt: skip
    assert out.splitlines() == ["timestamp\tsum", *rows]
    status, out, _ = shell("get-metrics", "paid", "--limit", "1")
    assert out.splitlines()[0] == "timestamp\tname\ttype\tvalue\ttags\tmetadata"
    assert out.splitlines()[1].endswith(
        '\tpaid\thistogram\t0.0\t{"shop": "f/r", "till": "0"}\t{"order": 0}'
    )
    assert [line.split("\t")[:2] for line in shell("list")[1].splitlines()] == [
        ["name", "type"], ["orders", "counter"], ["paid", "histogram"], ["queue_depth", "gauge"],
    ]  # fmt: skip


@pytest.mark.slow
def test_a_terminal_gets_tables_bars_and_sparklines(shell: Shell, asked: Metrics) -> None:
    status, out = shell.at_a_terminal("list")
    assert status == 0
    assert re.search(
        r"^ +name +type +unit +help +series +last_seen +\n ─+ *\n +orders +counter +6 ",
        out,
        re.MULTILINE,
    ), out
    status, out = shell.at_a_terminal(
        "time-series", "orders", "-i", "minute", "-a", "sum", "--window", "30m"
    )
    assert re.search(r"^  (\S+ )?\d\d:\d\d(:\d\d)?  █+ +9$", out, re.MULTILINE), out
    status, out = shell.at_a_terminal(
        "time-series", "paid", "-i", "minute", "-a", "max", "-g", "shop", "-w", "30m"
    )
    assert re.search(r"^ +f/r +max +0 +84 +0 +█[▁▂▃▄▅▆▇█ ]+▁", out, re.MULTILINE), out


@pytest.mark.slow
def test_what_steers_a_terminal_is_not_shown(shell: Shell, metrics: Metrics) -> None:
    metrics.increment("jobs", tags={"queue": "\x1b[2Jmail\n"})
    metrics.flush()
    _, out = shell.at_a_terminal("query", "jobs", "-a", "sum", "-g", "queue")
    assert "�[2Jmail�" in out
    assert shell("tag-values", "jobs", "queue") == (0, "\x1b[2Jmail \n", "")


def test_figures_are_shown_so_that_they_can_be_read() -> None:
    assert [cell(value) for value in (None, 1234567, 0.123456, 12.0, 1e300, True)] == [
        "", "1,234,567", "0.1235", "12", "1e+300", "True",
    ]  # fmt: skip
    assert plain(0.1 + 0.2) == "0.30000000000000004"
    assert sparkline([0, None, 7, 3.5, 8]) == "▁ █▄█"
    assert sparkline([-4, 4, 0], blocks=False) == "_#="
    assert sparkline([None, 0, 0]) == " ▁▁"


def test_bars_know_negative_and_missing_values() -> None:
    class Utf:
        encoding = "utf-8"

    rows = [
        {"timestamp": to_datetime(60_000 * at), "last": value}
        for at, value in enumerate((-3.0, None, 2.0))
    ]
    assert bars(Utf(), rows, "last") == [  # type: ignore[arg-type]
        f"  00:00:00  {'':40}  {'-3':>10}", "  00:01:00", f"  00:02:00  {'█' * 40}  {'2':>10}",
    ]  # fmt: skip


# -- deleting -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_delete_and_clear(shell: Shell, asked: Metrics, namespace: str) -> None:
    assert shell("delete", "paid") == (0, "Deleted paid.\n", "")
    assert shell("delete", "paid") == (
        1, "", f"redismetrics: no metric 'paid' in namespace '{namespace}'; `redismetrics list` prints all metrics\n",
    )  # fmt: skip
    status, out = shell.at_a_terminal("clear", keys="n\n")
    assert (status, len(asked.list_metrics())) == (1, 2)
    assert f"Delete all 2 metrics of namespace '{namespace}'? [y/N]" in out
    assert "nothing was deleted" in out
    assert shell.at_a_terminal("clear", keys="y\n")[0] == 0
    assert asked.list_metrics() == []
    asked.increment("orders")
    asked.flush()
    assert shell("clear", "--yes") == (0, "Deleted 1 metrics.\n", "")


# -- streams ------------------------------------------------------------------------------------------------------


def lines_of(shell: Shell, metrics: Metrics, *args: str) -> tuple[int, list[str], str]:
    """What a streaming command writes while samples are recorded, until it ends by itself."""
    with shell.start(*args) as process:
        until = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < until:
            metrics.increment("jobs_done", 2, tags={"queue": "mail"})
            metrics.increment("other", 1)
            metrics.flush()
            time.sleep(0.05)
        out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out.splitlines(), err


@pytest.mark.slow
def test_subscribe_prints_what_is_recorded(shell: Shell, metrics: Metrics) -> None:
    status, lines, err = lines_of(shell, metrics, "subscribe", "jobs_*", "--limit", "3", "--json")
    assert (status, err, len(lines)) == (0, "", 3)
    sample = json.loads(lines[0])
    assert sample.pop("timestamp").endswith("+00:00")
    assert sample == {
        "name": "jobs_done", "type": "counter", "value": 2.0, "tags": {"queue": "mail"}, "metadata": {}, "count": 1,
        "approximate": False,
    }  # fmt: skip
    status, lines, err = lines_of(shell, metrics, "tail", "--tag", "queue=mail", "--limit", "2")
    assert (status, err) == (0, "")
    assert [line.split("\t")[1:] for line in lines] == [
        ["jobs_done", "2.0", "1", '{"queue": "mail"}']
    ] * 2


def test_subscribe_prints_summaries(shell: Shell, metrics: Metrics) -> None:
    status, lines, err = lines_of(
        shell, metrics, "tail", "other", "--every", "0.2", "--limit", "2", "--json"
    )
    assert (status, err) == (0, "")
    for line in lines:
        found = json.loads(line)
        assert (found["name"], found["mean"], found["count"]) == ("other", 1.0, found["sum"])


def test_subscribe_ends_after_its_timeout_and_on_ctrl_c(shell: Shell) -> None:
    assert shell("subscribe", "--timeout", "0.2") == (0, "", "")
    with shell.start("subscribe") as process:
        time.sleep(1.5)  # it says nothing when it listens
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE) == ("", "")
    assert process.returncode in (130, -signal.SIGINT)


# -- worker -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_worker_once_shows_a_bar_at_a_terminal_only(
    fresh_server: Callable[..., Server], namespace: str
) -> None:
    server = fresh_server()
    shell = Shell(server.url, namespace)
    with Metrics(server.url, namespace=namespace, flush_interval=3600) as metrics:
        for number in range(30):
            metrics.increment(f"jobs_{number}", 2)
        metrics.flush()
        status, out, err = shell.process("worker", "--once", "--json")
        assert (status, json.loads(out)["samples"]) == (0, 30)
        assert "\x1b" not in err
        assert all(re.match(r"\d{4}-\d\d-\d\d \S+ INFO ", line) for line in err.splitlines())
        for number in range(30):
            metrics.increment(f"jobs_{number}", 3)
        metrics.flush()
        status, out = shell.at_a_terminal("worker", "--once")
    assert status == 0
    assert re.search(r"working +━+ +30/30 +30 samples sealed", out), out
    assert re.search(r"[\r\n]\d{4}-\d\d-\d\d \S+ INFO 30 samples sealed", out), out


def test_the_help_of_worker_and_export_names_the_command(shell: Shell) -> None:
    for command in ("worker", "export"):
        status, out, _ = shell(command, "--help")
        assert status == 0
        assert out.startswith(f"usage: redismetrics {command} ")


# -- completion, start --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_shell_completes_commands_and_names(shell: Shell, asked: Metrics) -> None:
    def completed(line: str) -> list[str]:
        shell.environment |= {
            "_REDISMETRICS_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")),
        }  # fmt: skip
        return shell.process()[1].split()

    assert completed("redismetrics get") == ["get-metrics"]
    assert completed("redismetrics query p") == ["paid"]
    assert completed("redismetrics query --namespace other p") == []
    shell.environment["REDISMETRICS_URL"] = "redis://127.0.0.1:1/0"
    assert completed("redismetrics query p") == []


def test_completion_is_installed_by_typer(shell: Shell) -> None:
    shell.environment["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
    status, out, _ = shell.process("--show-completion", "bash")
    assert status == 0
    assert "_REDISMETRICS_COMPLETE=complete_bash" in out


def test_every_command_has_help_and_none_of_it_loads_numpy_or_redis() -> None:
    code = (
        "import sys\nfrom redismetrics.cli.main import app, run\n"
        "import typer\ncommands = typer.main.get_command(app).commands\n"
        "for name, command in commands.items():\n"
        "    assert command.help, name\n"
        "    if name not in ('worker', 'export', 'embedded'):\n"
        "        assert run([name, '--help']) == 0, name\n"
        "        assert all(p.help for p in command.params if p.name != 'help'), name\n"
        "print(sorted({'numpy', 'redis', 'pcodec', 'starlette'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_nothing_given_is_help(shell: Shell) -> None:
    status, out, err = shell.process()
    assert status == 2
    assert "get-metrics" in out + err
