"""Without an optional package its endpoints are missing, and functions say how to install it."""

import logging
import sys
from typing import Any

import pytest

from redismetrics import Metrics, MissingExtra
from redismetrics.api.app import create_app
from redismetrics.errors import InvalidSetting


def paths(app: Any) -> set[str]:
    return {route.path for route in app.routes}


def forget(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Let these modules be imported again."""
    for name in list(sys.modules):
        if name.startswith(modules):
            monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize("package", ["promql_parser", "re2"])
def test_without_the_extra_there_are_no_endpoints(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch, caplog: Any, package: str
) -> None:
    assert "/api/v1/query" in paths(create_app(metrics))
    monkeypatch.setitem(sys.modules, package, None)
    with caplog.at_level(logging.INFO, "redismetrics"):
        found = paths(create_app(metrics))
    assert "/metrics" in found
    assert "/api/v1/query" not in found
    assert "pip install 'redismetrics[promql]'" in caplog.text


@pytest.mark.parametrize("package", ["cramjam", "google.protobuf"])
def test_without_the_extra_nothing_is_received(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch, caplog: Any, package: str
) -> None:
    assert "/api/v1/write" in paths(create_app(metrics, allow_write=True))
    forget(
        monkeypatch,
        "redismetrics.exposition.remote_write_message",
        "redismetrics.api.prometheus.write_endpoint",
    )
    monkeypatch.setitem(sys.modules, package, None)
    with caplog.at_level(logging.INFO, "redismetrics"):
        found = paths(create_app(metrics, allow_write=True))
    assert "/api/record" in found
    assert "/api/v1/write" not in found
    assert "pip install 'redismetrics[promql]'" in caplog.text


def test_function_says_what_to_install(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "promql_parser", None)
    with pytest.raises(MissingExtra, match=r"pip install 'redismetrics\[promql\]'"):
        metrics.promql_query("never_asked_before + 1")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"a b": "c"}, "letters, digits and underscores"),
        ({"__name__": "c"}, "letters, digits and underscores"),
        ({"le": "c"}, "which histograms use"),
        ({"job": ""}, "not empty"),
        ({"job": 1}, "not empty"),
    ],
)
def test_external_labels_are_checked(metrics: Metrics, labels: Any, message: str) -> None:
    with pytest.raises(InvalidSetting, match=message):
        create_app(metrics, external_labels=labels)
