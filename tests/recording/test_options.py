"""Options that `declare` gives: how they reach Redis, and the other processes."""

import asyncio
from typing import Any

import pytest
import redis

from redismetrics import AsyncMetrics, Metrics
from redismetrics.model.options import Options
from redismetrics.store import catalog, keys, scripts
from redismetrics.store.driver import run
from redismetrics.store.replies import STAMP_BYTES
from tests.fixtures.clients import MakeMetrics
from tests.fixtures.newer import set_definition


def use(metrics: Metrics, **options: Any) -> None:
    metrics.declare("loss", "gauge", **options)
    record(metrics)


def record(metrics: Metrics) -> None:
    metrics.gauge("loss", 0.5)
    assert metrics.flush().stored == 1


def options(metrics: Metrics) -> dict[str, Any]:
    (listed,) = metrics.list_metrics()
    found: dict[str, Any] = listed["options"]
    return found


def test_options_are_stored_with_the_first_sample(metrics: Metrics) -> None:
    use(metrics, max_series=5, retention=7200)
    assert options(metrics) == {"retention": 7200, "max_series": 5}


def test_definition_without_options_is_stored_as_ever(
    metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    use(metrics)
    (entry,) = admin.hvals(keys.shard(namespace, 0).catalogue)
    assert entry[:-STAMP_BYTES] == b"\x95\xa5gauge\xa0\xa0\x90\xc0"
    assert options(metrics) == {}


def test_later_declaration_changes_the_options_that_it_gives(
    metrics: Metrics, other: Metrics, admin: redis.Redis, namespace: str
) -> None:
    use(metrics, max_series=5, retention=7200)
    stamp = admin.hvals(keys.shard(namespace, 0).catalogue)[0][-STAMP_BYTES:]
    use(other, max_series=6)
    assert options(metrics) == {"retention": 7200, "max_series": 6}
    # The one that declared others first learns it, and does not change it back.
    record(metrics)
    record(other)
    use(other)
    assert options(metrics) == {"retention": 7200, "max_series": 6}
    assert metrics.internals.definition("loss").options.max_series == 6
    assert admin.hvals(keys.shard(namespace, 0).catalogue)[0][-STAMP_BYTES:] == stamp
    assert metrics.stats()["definition_conflicts"] == other.stats()["definition_conflicts"] == 0
    # Until it declares them again.
    use(metrics, max_series=7)
    assert options(other) == {"retention": 7200, "max_series": 7}


def test_process_that_declared_and_sent_may_declare_other_options(metrics: Metrics) -> None:
    use(metrics, max_series=5)
    use(metrics, retention=7200)
    use(metrics, max_series=6)
    assert options(metrics) == {"retention": 7200, "max_series": 6}


def test_declarations_before_the_first_sample_are_added_up(metrics: Metrics) -> None:
    metrics.declare("loss", "gauge", max_series=5)
    metrics.declare("loss", "gauge", retention=7200)
    use(metrics, max_series=6)
    assert options(metrics) == {"retention": 7200, "max_series": 6}


def test_options_of_two_processes_that_create_a_metric_are_added_up(
    metrics: Metrics, other: Metrics
) -> None:
    # Both declare before either sends.
    metrics.declare("loss", "gauge", max_series=5)
    other.declare("loss", "gauge", retention=7200)
    record(metrics)
    record(other)
    record(metrics)
    assert options(metrics) == {"retention": 7200, "max_series": 5}


def test_options_of_a_metric_concurrently_created_by_another_process(
    metrics: Metrics, other: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics.declare("loss", "gauge", max_series=5)
    look_up = catalog.definitions

    def slow_look_up(*arguments: Any) -> Any:
        found = yield from look_up(*arguments)
        monkeypatch.undo()
        use(other, retention=7200)
        return found

    monkeypatch.setattr(catalog, "definitions", slow_look_up)
    record(metrics)
    record(metrics)
    assert options(other) == {"retention": 7200, "max_series": 5}
    record(other)


def test_changes_of_two_processes_at_once_are_both_kept(
    metrics: Metrics, other: Metrics, admin: redis.Redis, namespace: str
) -> None:
    use(metrics)
    steps = catalog.set_options(namespace, 0, "loss", Options(max_series=5))
    read = next(steps)
    replies = [admin.hget(*read[0][1:]), admin.time()]
    use(other, retention=7200)
    (write,) = steps.send(replies)
    # The definition is not as it was read any more, so it is read again.
    text = scripts.script("define").text
    assert admin.execute_command("EVAL", text, *write[2:]) == 0
    assert steps.send([0]) == read
    (write,) = steps.send([admin.hget(*read[0][1:]), admin.time()])
    assert admin.execute_command("EVAL", text, *write[2:]) == 1
    assert options(metrics) == {"retention": 7200, "max_series": 5}


def test_options_of_a_newer_version_stay(
    metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    use(metrics)
    set_definition(admin, namespace, "loss", rest=(b"\x81\xa3new\x01", b"\x01"))
    use(metrics, max_series=6)
    (entry,) = admin.hvals(keys.shard(namespace, 0).catalogue)
    assert entry[:-STAMP_BYTES].endswith(b"\x82\xa3new\x01\xaamax_series\x06\x01")


def test_guessed_metric_gets_the_options_of_a_later_declaration(
    metrics: Metrics, other: Metrics
) -> None:
    metrics.record("loss", 0.5, type="gauge")
    metrics.flush()
    use(metrics, retention=7200)
    assert options(other) == {"retention": 7200}


def test_options_of_another_type_are_not_stored(metrics: Metrics, other: Metrics) -> None:
    use(metrics)
    other.declare("loss", "histogram", max_series=5)
    other.histogram("loss", 1)
    other.internals.settle(5)
    other.internals.settle(5)
    assert options(metrics) == {}
    assert other.stats()["dropped"] == {"type_mismatch": 1}


def test_metric_that_does_not_exist_has_no_options(admin: redis.Redis, namespace: str) -> None:
    assert run(admin, catalog.set_options(namespace, 0, "loss", Options(max_series=5))) is None
    assert not admin.exists(keys.shard(namespace, 0).catalogue)


def test_async_client_declares_options(url: str, namespace: str, make_metrics: MakeMetrics) -> None:
    async def use_async() -> None:
        async with AsyncMetrics(url, namespace=namespace) as metrics:
            metrics.declare("loss", "gauge", max_series=5)
            metrics.gauge("loss", 0.5)
            assert (await metrics.list_metrics())[0]["options"] == {"max_series": 5}

    asyncio.run(use_async())
    assert options(make_metrics()) == {"max_series": 5}
