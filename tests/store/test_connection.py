"""Servers that cannot be reached are named without passwords."""

import logging
from collections.abc import Callable

import pytest

from redismetrics import Metrics, ScriptFailed, StoreUnavailable
from tests.fixtures.servers import Server


def test_an_unreachable_server_is_named_without_its_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG, "redismetrics"):
        metrics = Metrics("redis://:geheim@127.0.0.1:1/0")
        metrics.increment("a")
        with pytest.raises(StoreUnavailable) as raised:
            metrics.flush(timeout=0.3)
        metrics.close(timeout=0.1)
    assert "geheim" not in str(raised.value) + caplog.text
    assert "***@127.0.0.1" in caplog.text


def test_an_unreachable_cluster_is_named_without_its_password(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG, "redismetrics"):
        metrics = Metrics("redis+cluster://:geheim@127.0.0.1:1,127.0.0.1:2")
        metrics.increment("a")
        with pytest.raises(StoreUnavailable) as raised:
            metrics.flush(timeout=0.3)
        metrics.close(timeout=0.1)
    assert "geheim" not in str(raised.value) + caplog.text


def test_a_server_that_is_not_a_cluster_is_reported(fresh_server: Callable[..., Server]) -> None:
    with Metrics(fresh_server(port=True).url.replace("redis:", "redis+cluster:")) as metrics:
        metrics.increment("a")
        with pytest.raises(ScriptFailed, match="cluster support disabled"):
            metrics.flush()
        metrics.close(timeout=0.1)
