"""Targets: what a URL on the command line may and may not contain."""

import pytest

from redismetrics.errors import InvalidSetting
from redismetrics.push.credentials import Credentials
from redismetrics.push.targets import parse_targets

NONE = Credentials()


@pytest.mark.parametrize(
    ("text", "protocol", "url"),
    [
        ("http://a:9090/api/v1/write", "remote-write", "http://a:9090/api/v1/write"),
        ("https://a/api/v1/push", "remote-write", "https://a/api/v1/push"),
        ("https://a/api/v1/receive", "remote-write", "https://a/api/v1/receive"),
        ("https://a/v1/metrics", "otlp", "https://a/v1/metrics"),
        ("https://a/api/v1/otlp/v1/metrics", "otlp", "https://a/api/v1/otlp/v1/metrics"),
        ("remote-write+http://a:9090", "remote-write", "http://a:9090/api/v1/write"),
        ("otlp+https://a:4318/", "otlp", "https://a:4318/v1/metrics"),
        ("otlp+https://a/in?key=1", "otlp", "https://a/in?key=1"),
        ("remote-write+http://[::1]:1/v1/metrics", "remote-write", "http://[::1]:1/v1/metrics"),
    ],
)
def test_a_url_gives_protocol_and_location(text: str, protocol: str, url: str) -> None:
    (target,) = parse_targets([text], NONE)
    assert (target.protocol, target.url) == (protocol, url)
    assert target.credentials == NONE


def test_credentials_of_a_target_follow_its_url() -> None:
    one, other = parse_targets(
        ["otlp+https://a#token-file=/run/a%20b", "https://b/write#headers-file=h&token-file=t"],
        NONE,
    )
    assert one.credentials == Credentials(token_file="/run/a b")
    assert other.credentials == Credentials(token_file="t", headers_file="h")


def test_common_credentials_are_those_of_the_only_target() -> None:
    common = Credentials(token="abc")
    assert parse_targets(["otlp+https://a"], common)[0].credentials == common
    with pytest.raises(InvalidSetting, match="must belong to one target, got several"):
        parse_targets(["otlp+https://a", "otlp+https://b"], common)
    with pytest.raises(InvalidSetting, match="got both"):
        parse_targets(["otlp+https://a#token-file=t"], common)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:9090", "must begin with http://"),
        ("redis://a", "must begin with http://"),
        ("influx+http://a", "must begin with http://"),
        ("http://a/other", r"write remote-write\+http://a/other or otlp\+http://a/other"),
        ("http://user:pass@a/api/v1/write", "no user and password"),
        ("otlp+http://", "must have a host"),
        ("otlp+http://a b", "no spaces"),
        ("otlp+http://a:x", "must be valid"),
        ("otlp+http://a#tokenfile=b", "did you mean 'token-file'"),
        ("otlp+http://a#token-file=", "token-file=FILE"),
    ],
)
def test_another_url_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidSetting, match=message) as caught:
        parse_targets([text], NONE)
    assert "pass@" not in str(caught.value)


def test_a_target_is_given_once() -> None:
    with pytest.raises(InvalidSetting, match="got the same one twice"):
        parse_targets(["otlp+http://a", "otlp+http://a/v1/metrics"], NONE)


def test_secrets_of_a_query_are_shown_nowhere() -> None:
    (target,) = parse_targets(["otlp+https://a/in?api_key=hush"], Credentials(token="hush"))
    assert "hush" not in f"{target!r}{target.name}{target.lease_name}"
    with pytest.raises(InvalidSetting) as caught:
        parse_targets(["https://a/in?api_key=hush"], NONE)
    assert "hush" not in str(caught.value)
