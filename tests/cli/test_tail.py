"""`subscribe` and `tail`."""

import json
import signal
import time

import pytest

from redismetrics import Metrics
from tests.fixtures.servers import PATIENCE, Server, wait_until
from tests.fixtures.shell import Shell
from tests.fixtures.streams import patterns


def lines_of(shell: Shell, metrics: Metrics, *args: str) -> tuple[int, list[str], str]:
    """Return what a streaming command prints while samples are recorded, until it ends."""
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
def test_subscribe_prints_recorded_samples(shell: Shell, metrics: Metrics) -> None:
    status, lines, err = lines_of(shell, metrics, "subscribe", "jobs_*", "--limit", "3", "--json")
    assert (status, err, len(lines)) == (0, "", 3)
    sample = json.loads(lines[0])
    assert sample.pop("timestamp").endswith("+00:00")
    assert sample == {
        "name": "jobs_done",
        "type": "counter",
        "value": 2.0,
        "tags": {"queue": "mail"},
        "metadata": {},
        "count": 1,
        "approximate": False,
    }
    status, lines, err = lines_of(shell, metrics, "tail", "--tag", "queue=mail", "--limit", "2")
    assert (status, err) == (0, "")
    assert [line.split("\t")[1:] for line in lines] == [
        ["jobs_done", "2.0", "1", '{"queue": "mail"}']
    ] * 2


@pytest.mark.slow
def test_subscribe_prints_summaries(shell: Shell, metrics: Metrics) -> None:
    status, lines, err = lines_of(
        shell, metrics, "tail", "other", "--every", "0.2", "--limit", "2", "--json"
    )
    assert (status, err) == (0, "")
    for line in lines:
        found = json.loads(line)
        assert (found["name"], found["mean"], found["count"]) == ("other", 1.0, found["sum"])


@pytest.mark.slow
def test_subscribe_ends_after_its_timeout_and_on_ctrl_c(shell: Shell, server: Server) -> None:
    before = patterns(server)
    assert shell("subscribe", "--timeout", "0.2") == (0, "", "")
    wait_until(lambda: patterns(server) == before, "the first subscription has ended")
    with shell.start("subscribe") as process:
        wait_until(lambda: patterns(server) > before, "it is subscribed")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE) == ("", "")
    assert process.returncode in (130, -signal.SIGINT)
