"""The engine of rules on a real store: what is recorded, and what goes wrong."""

import pytest
import redis

from redismetrics import AsyncMetrics, Metrics
from redismetrics.alerts.start import store_engine
from redismetrics.alerts.states import RuleFailed
from redismetrics.errors import TypeMismatch
from redismetrics.promql.prepare import Prepared
from redismetrics.store import keys
from redismetrics.store.namespace import Namespace


def now_ms(metrics: Metrics) -> int:
    return round(1000 * metrics.internals.clock())


def test_recorded_samples_are_seen_by_the_next_query(metrics: Metrics) -> None:
    engine, now = store_engine(metrics), now_ms(metrics)
    engine.write([({"__name__": "seen", "queue": "mail"}, 2.0)], [], now)
    (answer,) = engine.instant(["seen + 1"], now)
    assert answer.series == [({"queue": "mail"}, 3.0)]


def test_an_asyncio_client_records_too(url: str, namespace: str, metrics: Metrics) -> None:
    engine, now = store_engine(AsyncMetrics(url, namespace=namespace)), now_ms(metrics)
    engine.write([({"__name__": "seen"}, 2.0)], [], now)
    engine.settle()
    (answer,) = store_engine(metrics).instant(["seen"], now)
    assert [value for _, value in answer.series] == [2.0]


def test_a_metric_of_another_type_is_an_error_of_its_rule_only(
    metrics: Metrics, other: Metrics
) -> None:
    other.increment("taken")
    other.flush()
    engine, now = store_engine(metrics), now_ms(metrics)
    engine.write([({"__name__": "taken"}, 2.0), ({"__name__": "free"}, 1.0)], [], now)
    engine.settle()
    (answer,) = engine.instant(["free"], now)
    assert [value for _, value in answer.series] == [1.0]
    with pytest.raises(RuleFailed, match="taken"):
        engine.write([({"__name__": "taken"}, 2.0)], [], now)
    # The application's own report is not used up.
    with pytest.raises(TypeMismatch, match="taken"):
        metrics.flush()


def test_a_metric_that_cannot_be_read_is_an_error_of_its_rule_only(
    metrics: Metrics, namespace: str, admin: redis.Redis
) -> None:
    metrics.gauge("good", 1.0)
    metrics.gauge("bad", 1.0)
    metrics.flush()
    shards = metrics.internals.run(Namespace(namespace).shards())
    state = keys.rollup(namespace, keys.shard_of("bad", shards), "bad").state
    admin.set(state, "of another kind")
    engine, now = store_engine(metrics), now_ms(metrics)
    good, bad = engine.instant(["good", "bad"], now)
    assert [value for _, value in good.series] == [1.0]
    assert bad.error


def test_an_internal_error_affects_only_its_rule(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = store_engine(metrics)

    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(Prepared, "evaluate", fail)
        (answer,) = engine.instant(["vector(1)"], now_ms(metrics))
    assert answer.error == "BUG: MemoryError"
    assert "BUG: a rule cannot be evaluated: vector(1)" in caplog.text
    (answer,) = engine.instant(["vector(1)"], now_ms(metrics))
    assert [value for _, value in answer.series] == [1.0]
