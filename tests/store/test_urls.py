"""URLs: parsed, rejected with a reason, and shown without passwords."""

import pytest

from redismetrics import InvalidSetting, Metrics
from redismetrics.model.safe_url import safe_url
from redismetrics.settings import resolve
from redismetrics.store.urls import parse_multi_host_url


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
        ("redis://h/0?pass%77ord=geheim&db=1", "redis://h/0?pass%77ord=***&db=1"),
        ("redis://h/0?pass%2577ord=geheim", "redis://h/0?pass%2577ord=***"),
        ("redis://h/0?db=1&%50ASSWORD=geheim=x", "redis://h/0?db=1&%50ASSWORD=***"),
        ("redis://h/0?db=1?password=geheim", "redis://h/0?db=1?password=***"),
        ("redis://h/0?password=ge#heim", "redis://h/0?password=***"),
        ("redis://h/0#password=geheim", "redis://h/0#password=***"),
        ("redis://h/0?password=x@geheim", "redis://***"),
        ("redis://u:geheim@h/0?password=x@geheim", "redis://***"),
        ("redis://:x?y=z@h", "redis://***"),
        (
            "redis+sentinel://a:1,b:2/s?sentinel%5Fpassword=geheim&sentinel_username=u",
            "redis+sentinel://a:1,b:2/s?sentinel%5Fpassword=***&sentinel_username=u",
        ),
        ("redis://h/0?auth=geheim&access_token=geheim", "redis://h/0?auth=***&access_token=***"),
        ("localhost:6379", "localhost:6379"),
        ("geheim@localhost:6379", "***"),
        ("host=db password=geheim dbname=m", "***"),
    ],
)
def test_a_shown_url_has_no_password(url: str, shown: str) -> None:
    assert safe_url(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:geheim@localhost:1/0",
        "redis://localhost:1/0?pass%77ord=geheim",
        "redis+sentinel://u:geheim@h:1/s?sentinel_password=geheim",
        "redis+cluster://u:geheim@h:1?password=geheim",
    ],
)
def test_no_repr_shows_a_password(url: str) -> None:
    shown = [repr(resolve({}, url=url)), repr(Metrics(url)), str(Metrics(url).settings)]
    if "+" in url:
        shown.append(repr(parse_multi_host_url(url)))
    assert not [text for text in shown if "geheim" in text]


def test_repr_of_settings_is_that_of_a_dataclass() -> None:
    shown = repr(resolve({}, namespace="prod"))
    assert shown.startswith("Settings(url=None, namespace='prod', tags={}, on_invalid='raise', ")


@pytest.mark.parametrize(
    "url",
    [
        "http://:geheim@h",
        "redis://:ge#heim@h:x",
        "geheim",
        "",
        "redis://h:geheim",
        "embedded://geheim",
    ],
)
def test_an_invalid_url_is_rejected_at_construction_without_its_password(url: str) -> None:
    with pytest.raises(InvalidSetting) as raised:
        Metrics(url or "://:geheim@")
    if "@" in url:
        assert "geheim" not in str(raised.value)
        assert "heim" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "hosts", "first"),
    [
        ("redis+cluster://a:1,b:2", [("a", 1), ("b", 2)], "redis://a:1/"),
        ("redis+cluster://a,b/0", [("a", 6379), ("b", 6379)], "redis://a:6379/0"),
        (
            "redis+cluster://[::1]:7000,[::2]:7001",
            [("::1", 7000), ("::2", 7001)],
            "redis://[::1]:7000/",
        ),
        (
            "rediss+cluster://u:p%40@a:1?ssl_ca_certs=/x/y",
            [("a", 1)],
            "rediss://u:p%40@a:1/?ssl_ca_certs=%2Fx%2Fy",
        ),
        ("redis+sentinel://a,b:2/main", [("a", 26379), ("b", 2)], "redis://a:26379/"),
        (
            "redis+sentinel://:p@a:1/main/3?sentinel_password=q&socket_keepalive=1",
            [("a", 1)],
            "redis://:p@a:1/3?socket_keepalive=1",
        ),
    ],
)
def test_a_url_with_several_hosts(url: str, hosts: list[tuple[str, int]], first: str) -> None:
    found = parse_multi_host_url(url)
    assert found.hosts == hosts
    assert found.url_of(*hosts[0]) == first
    assert found.service == ("main" if "sentinel:" in url else "")
    assert Metrics(url).settings.url == url


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis+cluster://", "host:port"),
        ("redis+cluster://a:1,,b:2", "host:port"),
        ("redis+cluster://a:99999", "port"),
        ("redis+cluster://:geheim@a:1,u:geheim@b:2", "login"),
        ("redis+cluster://a:1/3", "no database but 0"),
        ("redis+cluster://a:1?sentinel_password=geheim", "sentinel_password"),
        ("redis+sentinel://a:1", "/service"),
        ("redis+sentinel://a:1/main/x", "database"),
        ("redis+sentinel://a:1/main?sentinel_ssl=1", "sentinel_username"),
        ("redis+other://a:1", "redis\\+sentinel://"),
    ],
)
def test_an_invalid_url_with_several_hosts_is_rejected_with_a_reason(url: str, reason: str) -> None:
    with pytest.raises(InvalidSetting, match=reason) as raised:
        Metrics(url)
    assert "geheim" not in str(raised.value)
