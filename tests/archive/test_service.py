"""The service of an archiver: what it counts and shows; nothing but `stop` ends it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.archive import archiver as archiver_module
from redismetrics.archive import service as service_module
from redismetrics.archive.page import status_of
from redismetrics.archive.service import ArchiveService
from redismetrics.archive.target import open_target, target_opener
from redismetrics.errors import InvalidSetting
from redismetrics.exposition.status_page import StatusSource, status_app
from redismetrics.settings import resolve
from redismetrics.store.connection import Store
from tests.archive.tools import HOUR, Seal, rows
from tests.fixtures.servers import PATIENCE, wait_until

Make = Callable[..., ArchiveService]


@pytest.fixture
def make(url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setattr(service_module, "MAX_PAUSE", 0.5)
    store = Store(resolve({}, url=url).url, 5.0)
    yield lambda opener, **options: ArchiveService(store, namespace, opener, ("hour",), **options)
    store.close()


@contextmanager
def running(service: ArchiveService) -> Iterator[None]:
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        yield
    finally:
        service.stop.set()
        thread.join(PATIENCE)
    assert not thread.is_alive()


def page(source: StatusSource, path: str) -> tuple[str, str]:
    answers: list[str] = []
    body = status_app(source)({"PATH_INFO": path}, lambda status, _: answers.append(status))
    return answers[0], b"".join(body).decode()


def test_an_archive_that_is_not_there_yet_is_waited_for(
    metrics: Metrics, seal: Seal, make: Make, tmp_path: Path
) -> None:
    metrics.increment("jobs", 3, tags={"route": "a"}, timestamp=time.time() - 2 * HOUR)
    seal()
    (tmp_path / "archive").write_text("no folder")
    to = f"file://{tmp_path}/archive"
    service = make(target_opener(to), interval=0.05)
    source = status_of(service)
    with running(service):
        wait_until(lambda: service.counts.failures >= 2, "it is tried again")
        status, text = page(source, "/healthz")
        assert status == "503 Service Unavailable"
        assert f"the archive in {tmp_path}/archive failed" in text
        (tmp_path / "archive").unlink()
        wait_until(lambda: service.counts.passes >= 2, "it archives")
    assert page(source, "/healthz") == ("200 OK", "ok\n")
    text = page(source, "/metrics")[1]
    assert 'redismetrics_archive_rows_total{level="hour"} 1\n' in text
    assert "redismetrics_archive_lag_seconds 0\n" in text
    assert "redismetrics_archive_waiting 0\n" in text
    assert [row["sum"] for row in rows(to, "hour")] == [3]


def test_an_error_of_ours_does_not_end_the_thread(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left = [2]

    def opener() -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise ZeroDivisionError("of ours")
        return open_target(f"file://{tmp_path}/archive")

    service = make(opener, interval=0.05)
    with running(service):
        wait_until(lambda: service.counts.passes, "it goes on")
    assert service.counts.failures == 2
    assert "BUG: archiving failed" in caplog.text


def test_a_service_stops_within_a_pass(
    metrics: Metrics, seal: Seal, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        metrics.increment(f"jobs_{number}", tags={"route": "a"}, timestamp=time.time() - 2 * HOUR)
    seal()
    read, seen = archiver_module.read_rollups, []

    def stopping(*args: Any) -> Any:
        seen.append(args)
        if len(seen) == 3:
            service.stop.set()
        return read(*args)

    monkeypatch.setattr(archiver_module, "read_rollups", stopping)
    to = f"file://{tmp_path}/archive"
    service = make(target_opener(to))
    service.run()
    # The metrics that were done until then are archived, with that during which it was stopped.
    assert len(seen) == len(rows(to, "hour")) == 3
    # It does not count as a pass, since it has not seen all that waits.
    assert service.counts.passes == 0


def test_levels_are_checked_before_anything_is_opened(url: str, namespace: str) -> None:
    with pytest.raises(InvalidSetting, match="level must be raw"):
        ArchiveService(Store(url, 5.0), namespace, lambda: pytest.fail("opened"), ("week",))
