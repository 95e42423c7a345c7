"""Attributes become tags, names become metric names."""

import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs redismetrics[otel]")
pytest.importorskip(
    "opentelemetry.exporter.otlp.proto.http", reason="needs opentelemetry-exporter-otlp-proto-http"
)
pytest.importorskip("starlette", reason="needs redismetrics[server]")

from redismetrics import Metrics
from tests.fixtures.otlp import number_point, post_otlp, rejected, sum_request


def test_attributes_become_valid_tags(metrics: Metrics, at: str) -> None:
    attributes = [
        {"key": "a b", "value": {"stringValue": "2"}},
        {"key": "a_b", "value": {"intValue": "3"}},
        {"key": "a-b", "value": {"boolValue": True}},
        {"key": "9", "value": {"doubleValue": 1.5}},
        {
            "key": "list",
            "value": {"arrayValue": {"values": [{"stringValue": "x"}, {"intValue": "1"}]}},
        },
        {
            "key": "map",
            "value": {"kvlistValue": {"values": [{"key": "k", "value": {"stringValue": "ü"}}]}},
        },
        {"key": "raw", "value": {"bytesValue": "AAE="}},
        {"key": "none", "value": {}},
        {"key": "long", "value": {"stringValue": "ü" * 2100}},
        {"key": "k" * 300, "value": {"stringValue": ""}},
    ]
    body = sum_request(
        number_point(1, attributes=attributes),
        temporality=1,
        name="with space/and:ü",
        unit="{request}/s",
    )
    own = {"key": "list", "value": {"stringValue": "the resource's own"}}
    body["resourceMetrics"][0]["resource"] = {
        "attributes": [{"key": "service.name", "value": {"stringValue": "s"}}, own]
    }
    assert rejected(post_otlp(at, body)) == (0, "")
    (family,) = metrics.live()
    assert (family.name, family.definition.unit) == ("with_space/and:_", "request/s")
    tags = family.series[0].tags
    (long_key,) = (key for key in tags if key.startswith("kkk"))
    assert len(long_key) == 200
    assert tags == {
        "a_b": "2;3",
        "a-b": "true",
        "_9": "1.5",
        "list": '["x",1]',
        "map": '{"k":"ü"}',
        "raw": "AAE=",
        "long": "ü" * 2048,
        long_key: "",
        "service.name": "s",
    }


def test_too_many_attributes_lose_no_value(metrics: Metrics, at: str) -> None:
    many = [{"key": f"k{number:02}", "value": {"intValue": "1"}} for number in range(80)]
    assert rejected(
        post_otlp(at, sum_request(number_point(2, attributes=many), temporality=1))
    ) == (
        0,
        "",
    )
    (family,) = metrics.live("m")
    assert family.series[0].value == 2
    assert list(family.series[0].tags) == [f"k{number:02}" for number in range(64)]
