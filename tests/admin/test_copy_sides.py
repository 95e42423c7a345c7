"""The two sides of a copy: who uses them, the lock, and the side that errors name."""

from collections.abc import Callable

import pytest

from redismetrics import InvalidSetting, StoreError
from redismetrics.admin.copy_report import Progress
from redismetrics.admin.copying import copy, reset
from redismetrics.store import keys
from tests.fixtures.clients import MakeMetrics
from tests.fixtures.copies import copied
from tests.fixtures.servers import Server
from tests.fixtures.workers import contents, new_worker

pytestmark = pytest.mark.slow


def test_a_source_in_use_is_rejected_and_not_changed(
    make_metrics: MakeMetrics, second_server: Server, url: str, namespace: str
) -> None:
    metrics = make_metrics(url)
    metrics.increment("jobs")
    metrics.flush()
    with pytest.raises(
        StoreError,
        match=r"in use, the last batch arrived 0\.\d s ago; stop the recording processes",
    ):
        copy(url, second_server.url, namespace=namespace)
    worker = new_worker(url, namespace)
    worker.pass_once()
    with pytest.raises(StoreError, match="in use, 1 worker is running"):
        copied(url, second_server.url, namespace)
    with second_server.client() as admin:
        assert contents(admin, namespace) == {}
        with pytest.raises(
            StoreError,
            match=r"still in use after 0\.2 s, 1 worker is running\. The target stays closed",
        ):
            copied(url, second_server.url, namespace, wait=0.2)
        assert admin.hget(keys.config(namespace), "format") == b"copying"
    worker.leave()
    worker.store.close()
    assert copied(url, second_server.url, namespace).complete


def test_a_second_copy_at_the_same_time_is_rejected(
    make_metrics: MakeMetrics, second_server: Server, url: str, namespace: str
) -> None:
    metrics = make_metrics(url)
    metrics.increment("jobs")
    metrics.flush()
    refused = 0

    def again(progress: Progress) -> None:
        nonlocal refused
        for attempt in (
            lambda: copied(url, second_server.url, namespace),
            lambda: reset(second_server.url, namespace=namespace),
        ):
            with pytest.raises(StoreError, match="is being written by another copy"):
                attempt()
            refused += 1

    assert copied(url, second_server.url, namespace, on_progress=again).complete
    assert refused > 3

    def taken(progress: Progress) -> None:
        with second_server.client() as admin:
            admin.set(keys.copier(namespace), "somebody")

    make_metrics(second_server.url).clear(confirm=True)
    with pytest.raises(StoreError, match="is now being written by another copy; this one stops"):
        copied(url, second_server.url, namespace, on_progress=taken)
    with second_server.client() as admin:
        assert admin.get(keys.copier(namespace)) == b"somebody"


def test_errors_name_the_side_and_hide_the_password(
    make_metrics: MakeMetrics,
    fresh_server: Callable[..., Server],
    second_server: Server,
    url: str,
    namespace: str,
) -> None:
    metrics = make_metrics(url)
    metrics.increment("jobs")
    metrics.flush()
    closed = fresh_server(port=True)
    with closed.client() as admin:
        admin.config_set("requirepass", "right")
    with pytest.raises(StoreError, match="does not exist; there is nothing to copy"):
        copied(url, second_server.url, f"{namespace}-none")
    for wrong in (f"redis://:geheim@127.0.0.1:{closed.port}/0", "redis://:geheim@127.0.0.1:1/0"):
        for source, target in ((wrong, second_server.url), (url, wrong)):
            with pytest.raises(StoreError, match=r"^redis://:\*\*\*@127.0.0.1") as raised:
                copied(source, target, namespace)
            assert "geheim" not in str(raised.value)
    for wrong in ("http://:geheim@x", "none://", "redis+cluster://:geheim@h:1:2"):
        for source, target in ((wrong, second_server.url), (url, wrong)):
            with pytest.raises(InvalidSetting, match="url") as bad:
                copied(source, target, namespace)
            assert "geheim" not in str(bad.value)
    with pytest.raises(InvalidSetting, match="shards must be 1 to 16384, got 0"):
        copied(url, second_server.url, namespace, shards=0)
