"""Values of processes as FORMAT 2 stores them, read by today's code.

`python -m tests.system.golden.test_golden_processes` writes processes2.json again. After a release
it must not change. See test_golden.py, whose namespace has the other kinds.
"""

from collections.abc import Iterator
from unittest import mock

import pytest
import redis

from redismetrics import Metrics
from redismetrics.columnar.process_values import Process
from redismetrics.model.options import MERGE_MODES
from redismetrics.recording import own_values
from redismetrics.store import keys
from tests.fixtures.servers import Server
from tests.system.golden.dumps import dump, load, restored_dump, save
from tests.system.golden.test_golden import AGES, BASE, CLOCK, NEVER

NAMESPACE = "golden_processes"
FILE = "processes2.json"
PROCESSES = [
    Process(7, b"kernel_1", "web"),
    Process(8, b"kernel_1", "web"),
    Process(7, b"k2", "db"),
]


def record(server: Server) -> None:
    """Record the values of three processes, of which the last ends."""
    with server.client() as direct:
        direct.set(keys.shard(NAMESPACE, 0).clock, f"{CLOCK}000000")
    for number, process in enumerate(PROCESSES):
        made = Metrics(
            server.url,
            namespace=NAMESPACE,
            flush_interval=NEVER,
            **AGES,
            clock=lambda number=number: BASE + number,
        )
        made._sink.sender.writer = f"writer_{number}"
        with mock.patch.object(own_values, "this_process", lambda process=process: process):
            for mode in MERGE_MODES:
                gauge = made.gauge(mode, per="process", merge=mode)
                gauge.set(number + 1.5)
                gauge.with_tags(queue="mail").add(number - 1.0)
            made.flush()
            if number < 2:
                # It does not say that it ends.
                made._sink.sender.own._metrics.clear()
            made.close()


@pytest.fixture(params=["file", "today"])
def restored(request: pytest.FixtureRequest, server: Server) -> Iterator[redis.Redis]:
    """A server whose namespace holds the dump and nothing else."""
    content = dump(NAMESPACE, record) if request.param == "today" else load(FILE)
    with restored_dump(server, NAMESPACE, content) as direct:
        yield direct


@pytest.fixture
def metrics(restored: redis.Redis, url: str) -> Iterator[Metrics]:
    with Metrics(url, namespace=NAMESPACE, flush_interval=NEVER, series_idle=1e9, **AGES) as made:
        yield made


def shown(metrics: Metrics, name: str) -> list[tuple[dict[str, str], float]]:
    (family,) = metrics.live(name)
    found = [(each.tags, each.value) for each in family.series]
    return sorted(found, key=lambda each: sorted(each[0].items()))


def test_values_of_processes_are_read(metrics: Metrics) -> None:
    merged = {"sum": (7.5, 0), "min": (1.5, -1), "max": (3.5, 1), "mostrecent": (3.5, 1)}
    for mode, (plain, mail) in merged.items():
        assert shown(metrics, mode) == [({}, plain), ({"queue": "mail"}, mail)]
    # By the server's clock the batches are of the future, so the processes seem to live.
    live = {"livesum": (4, -1), "livemin": (1.5, -1), "livemax": (2.5, 0)}
    live["livemostrecent"] = (2.5, 0)
    for mode, (plain, mail) in live.items():
        assert shown(metrics, mode) == [({}, plain), ({"queue": "mail"}, mail)]
    both = [({"pid": "7"}, 1.5), ({"pid": "7", "queue": "mail"}, -1)]
    both += [({"pid": "8"}, 2.5), ({"pid": "8", "queue": "mail"}, 0)]
    assert shown(metrics, "liveall") == both
    # The one that has ended is of another host, and has the same id as the first.
    ended = [({"pid": "7@db"}, 3.5), ({"pid": "7@db", "queue": "mail"}, 1)]
    first = [({**tags, "pid": "7@web"}, value) for tags, value in both[:2]]
    assert shown(metrics, "all") == [*ended, *first, *both[2:]]


def test_recording_continues(metrics: Metrics) -> None:
    metrics.gauge("sum", 10.0)
    metrics.flush()
    assert shown(metrics, "sum")[0] == ({}, 17.5)
    assert metrics.query("sum", aggregation="count", tags={"queue": None}) == 4


if __name__ == "__main__":
    save(FILE, dump(NAMESPACE, record))
