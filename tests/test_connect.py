"""URLs: which are understood, and that no message shows a password."""

import logging

import pytest

from redismetrics import InvalidSetting, Metrics, StoreUnavailable
from redismetrics.connect import safe_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:geheim@localhost:1/0", "redis://:***@localhost:1/0"),
        ("redis://user:geheim@localhost", "redis://user:***@localhost"),
        ("redis://geheim@localhost", "redis://***@localhost"),
        ("redis://:ge#heim@localhost:1/0", "redis://:***@localhost:1/0"),
        ("redis://:ge/heim@localhost:1/0", "redis://:***@localhost:1/0"),
        ("redis://:ge?heim@localhost:1/0", "redis://:***@localhost:1/0"),
        ("redis://:ge@heim@localhost:1/0", "redis://:***@localhost:1/0"),
        ("unix:///tmp/s?db=0&password=geheim&x=1", "unix:///tmp/s?db=0&password=***&x=1"),
        ("localhost:6379", "localhost:6379"),
        ("geheim@localhost:6379", "***"),
    ],
)
def test_a_shown_url_has_no_password(url: str, shown: str) -> None:
    assert safe_url(url) == shown


@pytest.mark.parametrize(
    "url", ["http://:geheim@h", "redis://:ge#heim@h:x", "geheim", "", "redis://h:geheim", "embedded://geheim"]
)
def test_a_wrong_url_raises_at_construction_and_hides_the_password(url: str) -> None:
    with pytest.raises(InvalidSetting) as raised:
        Metrics(url or "://:geheim@")
    if "@" in url:
        assert "geheim" not in str(raised.value)
        assert "heim" not in str(raised.value)


def test_a_store_that_is_away_is_named_without_its_password(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "redismetrics"):
        metrics = Metrics("redis://:geheim@127.0.0.1:1/0")
        metrics.increment("a")
        with pytest.raises(StoreUnavailable) as raised:
            metrics.flush(timeout=0.3)
        metrics.close(timeout=0.1)
    assert "geheim" not in str(raised.value) + caplog.text
    assert "***@127.0.0.1" in caplog.text
