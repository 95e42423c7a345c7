"""`top` in a pseudo-terminal, against a real server."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from redismetrics import Metrics
from tests.fixtures.servers import PATIENCE, Server, wait_until
from tests.fixtures.shell import ROOT, Shell

CODE = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()].|[=>])")


IN, OUT = "\x1b[?1049h", "\x1b[?1049l"  # the alternate screen


class Terminal:
    """A process with a terminal of its own, and what it wrote there."""

    def __init__(
        self, command: list[str], environment: dict[str, str], rows: int = 30, columns: int = 100
    ) -> None:
        self._ours, theirs = pty.openpty()
        self.resize(rows, columns)
        self.modes = termios.tcgetattr(theirs)
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  one call, so that Ctrl-C is a signal
        )
        self._theirs = theirs
        self.text = ""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds: float = 0.0) -> None:
        while select.select([self._ours], [], [], seconds)[0]:
            self.text += os.read(self._ours, 65536).decode(errors="replace")
            seconds = 0.0

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    @property
    def frame(self) -> str:
        """The newest complete screen, without control sequences."""
        self.read(0.02)
        frames = self.text.split("\x1b[H")
        return CODE.sub(
            "",
            frames[-1] if len(frames) < 3 else frames[-2] if len(frames[-1]) < 50 else frames[-1],
        )

    def shows(self, pattern: str, timeout: float = PATIENCE) -> str:
        """Wait until the screen has *pattern*; return the screen."""
        found: list[str] = []

        def there() -> bool:
            found[:] = [self.frame]
            return re.search(pattern, found[0]) is not None

        try:
            wait_until(there, pattern, timeout)
        except AssertionError:
            raise AssertionError(
                f"{pattern!r} is not on the screen:\n{self.frame}\n---\n{self.text[-3000:]!r}"
            ) from None
        return found[0]

    def end(self) -> int:
        """Wait for its end; the terminal must be restored."""

        def ended() -> bool:
            self.read(0.02)
            return self.process.poll() is not None

        wait_until(ended, "top has ended")
        self.read(0.05)
        assert termios.tcgetattr(self._theirs) == self.modes
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._theirs)
        os.close(self._ours)


Start = Callable[..., Terminal]


def environment(**more: str) -> dict[str, str]:
    found = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TERM": "xterm",
        "PYTHONIOENCODING": "utf-8",
        **more,
    }
    for name in (
        "COLUMNS",
        "LINES",
        "FORCE_COLOR",
        "NO_COLOR",
        "TTY_COMPATIBLE",
        "TTY_INTERACTIVE",
    ):
        found.pop(name, None)
    return found


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Terminal] = []

    def top(url: str, namespace: str, *args: str, term: str = "xterm", **size: int) -> Terminal:
        command = [
            sys.executable,
            "-m",
            "redismetrics",
            "top",
            "--url",
            url,
            "--namespace",
            namespace,
            *args,
        ]
        started.append(Terminal(command, environment(TERM=term), **size))
        return started[-1]

    yield top
    for each in started:
        each.close()


@pytest.fixture
def metrics(url: str, namespace: str) -> Iterator[Metrics]:
    with Metrics(url, namespace=namespace, flush_interval=3600) as client:
        yield client


def record(metrics: Metrics, times: int = 1) -> None:
    metrics.increment("orders", 5 * times, tags={"shop": "de"})
    metrics.increment("orders", 2 * times, tags={"shop": "fr"})
    metrics.gauge("queue_depth", 42)
    for value in range(1, 21):
        metrics.histogram("latency_ms", value)
    metrics.flush()


@pytest.mark.slow
def test_it_shows_recorded_metrics_and_responds_to_keys(
    start: Start, metrics: Metrics, url: str, namespace: str
) -> None:
    record(metrics)
    top = start(url, namespace, "--every", "0.5")
    screen = top.shows(r"latency_ms +histogram +1 +\S+ +20 +19\.05 +[▁▂▃▄▅▆▇█]")
    assert IN in top.text
    top.shows(r"orders +counter +2 +\S+ +\+\d ")
    top.shows(r"queue_depth +gauge +1 +\S+ +42 ")
    assert "1-3 of 3 metrics by rate" in screen
    metrics.gauge("queue_depth", -7.5)  # delivered by the stream
    metrics.increment("orders", 0, tags={"shop": "it"})
    metrics.flush()
    top.shows(r"queue_depth +gauge +1 +\S+ +-7\.5 ")
    top.shows(r"orders +counter +3 ")

    top.press("n")
    assert order(top.shows("by name")) == ["latency_ms", "orders", "queue_depth"]
    top.press("n")
    top.shows("name↓")
    wait_until(
        lambda: order(top.frame) == ["queue_depth", "orders", "latency_ms"], "the order is reversed"
    )
    top.press("/QUE")
    assert order(top.shows("/QUE_")) == ["queue_depth"]
    top.press("x\x7f\x7f\x7f")
    top.shows("/Q_")
    top.press("\r")
    assert order(top.shows("1-1 of 1 metrics by name  /Q  in ")) == ["queue_depth"]
    top.press("/zzz\r")
    top.shows("no metric name contains the filter")
    top.press("\x1b")
    top.shows("of 3 metrics")
    top.press(" ")
    top.shows("paused")
    metrics.gauge("queue_depth", 1234)
    metrics.flush()
    for _ in range(4):
        assert "1,234" not in top.frame
        time.sleep(0.2)
    top.press(" ")
    top.shows(r"queue_depth .* 1,234 ")
    assert "paused" not in top.frame

    top.press("q")
    assert top.end() == 0
    assert top.text.rindex(OUT) > top.text.rindex(IN)
    assert "\x1b[?25h" in top.text[top.text.rindex(IN) :], "the cursor is back"


def order(screen: str) -> list[str]:
    return list(re.findall(r"^(\w+) +(?:counter|gauge|histogram) ", screen, re.MULTILINE))


@pytest.mark.slow
def test_a_rate_is_the_mean_of_the_last_seconds(
    start: Start, metrics: Metrics, url: str, namespace: str
) -> None:
    top = start(url, namespace, "--every", "0.2")
    top.shows("nothing has been recorded yet")
    until = time.monotonic() + PATIENCE
    times: list[float] = []
    # What is shown, and the rate of the last two seconds.
    shown, actual = 0.0, 0.0
    while time.monotonic() < until and not 0.6 * actual < shown < 1.4 * actual:
        metrics.increment("steady", 10)
        metrics.flush()
        times.append(time.monotonic())
        time.sleep(0.1)
        for text in re.findall(r"steady +counter +1 +([\d.]+) ", top.frame)[-1:]:
            shown = float(text)
            actual = 10 * sum(each > times[-1] - 2 for each in times) / 2
    assert 0.6 * actual < shown < 1.4 * actual, top.frame
    top.press("q")
    assert top.end() == 0


@pytest.mark.slow
def test_it_fits_a_terminal_that_is_resized(
    start: Start, metrics: Metrics, url: str, namespace: str
) -> None:
    for number in range(40):
        metrics.increment(f"metric_{number:02}", 1)
    metrics.flush()
    top = start(url, namespace, "--sort", "name", rows=14, columns=100)
    screen = top.shows("1-10 of 40 metrics")
    assert order(screen) == [f"metric_{number:02}" for number in range(10)]
    assert "last 20 min" in screen
    top.press("\x1b[B\x1b[B")
    top.shows("3-12 of 40 metrics")
    top.press("\x1b[F")
    top.shows("31-40 of 40 metrics")
    top.resize(24, 50)
    screen = top.shows("21-40 of 40 metrics")
    assert "last 20 min" not in screen
    assert "series" not in screen.split("\n")[2]
    assert max(len(line.rstrip("\r")) for line in screen.splitlines()) <= 50
    top.resize(5, 20)
    top.shows(r"^21-21 of 40 metrics…\r\n[^\n]*\n[^\n]*\nmetric_20")
    top.resize(60, 120)
    assert "last 20 min" in top.shows("^1-40 of 40 metrics")
    top.press("\x04")
    assert top.end() == 0


@pytest.mark.slow
def test_it_reports_an_unreachable_redis_and_continues_after_a_restart(
    start: Start, fresh_server: Callable[..., Server], namespace: str
) -> None:
    server = fresh_server()
    with Metrics(server.url, namespace=namespace, flush_interval=3600) as metrics:
        record(metrics)
        top = start(server.url, namespace, "--every", "0.2")
        top.shows(r"queue_depth +gauge +1 +\S+ +42 ")
        server.kill()
        screen = top.shows("retrying: ")
        assert "queue_depth" in screen
        top.press("n")
        top.shows("by name")
        server.restart()
        wait_until(lambda: "retrying" not in top.frame, "the error is gone")
        metrics.gauge("queue_depth", 43)
        metrics.flush()
        top.shows(r"queue_depth +gauge +1 +\S+ +43 ")
        server.kill()
        top.press("q")
        assert top.end() == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)], ids=["ctrl-c", "terminated"]
)
def test_signals_end_it_and_restore_the_terminal(
    start: Start, metrics: Metrics, url: str, namespace: str, number: int, status: int
) -> None:
    record(metrics)
    top = start(url, namespace)
    top.shows("orders")
    if number == signal.SIGINT:
        top.press("\x03")
    else:
        top.process.send_signal(number)
    assert top.end() == status
    assert top.text.rindex(OUT) > top.text.rindex(IN)
    assert "Traceback" not in top.text


@pytest.mark.slow
def test_ctrl_z_restores_the_terminal_until_it_continues(
    start: Start, metrics: Metrics, url: str, namespace: str
) -> None:
    record(metrics)
    top = start(url, namespace)
    top.shows("orders")
    top.press("\x1a")

    def stopped() -> bool:
        top.read(0.02)
        return (
            Path(f"/proc/{top.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        )

    if not Path("/proc/self/stat").exists():
        pytest.skip("this system has no /proc to look in")
    wait_until(stopped, "it has stopped")
    assert top.text.rindex(OUT) > top.text.rindex(IN)
    top.text = ""
    top.process.send_signal(signal.SIGCONT)
    top.shows("orders")
    assert IN in top.text
    top.press("q")
    assert top.end() == 0


@pytest.mark.slow
def test_a_dumb_terminal_gets_one_table(
    start: Start, metrics: Metrics, url: str, namespace: str
) -> None:
    record(metrics)
    top = start(url, namespace, "--sort", "name", term="dumb")
    assert top.end() == 0
    assert "\x1b" not in top.text
    assert re.search(r"latency_ms +histogram +1 +\S+ +20 +19\.05 ", top.text), top.text
    assert "▁▁▁▁" in top.text


def test_a_pipe_gets_lines_and_json(metrics: Metrics, url: str, namespace: str) -> None:
    record(metrics)

    def run(*args: str) -> str:
        status, out, err = Shell(url, namespace)("top", *args)
        assert (status, err) == (0, "")
        return out

    lines = [line.split("\t") for line in run("--sort", "name").splitlines()]
    assert lines[0] == ["name", "type", "series", "rate", "last", "p95"]
    assert [line[:3] for line in lines[1:]] == [
        ["latency_ms", "histogram", "1"],
        ["orders", "counter", "2"],
        ["queue_depth", "gauge", "1"],
    ]
    assert [line[4:] for line in lines[1:]] == [["20.0", "19.05"], [lines[2][4], ""], ["42.0", ""]]
    (row,) = json.loads(run("--json", "que*"))
    assert (row["name"], row["last"], len(row["trend"])) == ("queue_depth", 42.0, 20)
    assert 42.0 in row["trend"][-2:]
    (row,) = json.loads(run("--json", "orders"))
    assert row["rate"] == pytest.approx(7 / 300)
