"""Options of a URL: the allowed ones reach the connection, others are rejected at construction."""

import asyncio
import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest

from redismetrics import InvalidSetting, Metrics
from redismetrics.store import embedded
from redismetrics.store.connection import Store
from tests.fixtures.servers import Server

# What connections depend on, whatever the URL says.
OURS = {"protocol": 2, "socket_timeout": 1.5, "socket_connect_timeout": 1.5}


@pytest.mark.parametrize(
    "option",
    [
        "protocol=3",
        "protocol=2",
        "decode_responses=true",
        "encoding=latin-1",
        "encoding_errors=ignore",
        "timeout=5",
        "socket_timeout=5",
        "socket_connect_timeout=5",
        "retry_on_timeout=true",
        "retry_on_error=x",
        "retry=3",
        "max_connections=1",
        "legacy_responses=false",
        "single_connection_client=true",
        "virtual_host=app",
        "host=elsewhere",
        "port=1",
        "path=/tmp/socket",
        "connection_class=x",
        "parser_class=x",
        "credential_provider=x",
        "Db=1",
        "decode%5Fresponses=true",
        "db=one",
        "db=-1",
        "db=",
        "db=1&db=2",
        "password=",
        "socket_keepalive=off",
        "health_check_interval=1.5",
        "client_name=two%20words",
        "client_name=line%0Abreak",
    ],
)
@pytest.mark.parametrize(
    "base", ["redis://h", "rediss://h", "redis+cluster://h", "redis+sentinel://h/main"]
)
def test_an_option_that_is_not_allowed_is_rejected_at_construction(base: str, option: str) -> None:
    with pytest.raises(InvalidSetting, match=r"^(url|option .* of url) "):
        Metrics(f"{base}?{option}")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://h?ssl_cert_reqs=none", "option ssl_cert_reqs of url needs TLS"),
        ("unix:///s?ssl_ca_certs=/a", "option ssl_ca_certs of url needs TLS"),
        ("unix:///s?socket_keepalive=1", "unknown option socket_keepalive"),
        ("redis+cluster://h?ssl_ca_certs=/a", "option ssl_ca_certs of url needs TLS"),
        ("rediss://h?ssl_cert_reqs=maybe", "must be none, optional or required"),
        ("rediss://h?ssl_keyfile=/a", "must have option ssl_certfile"),
        ("rediss://h?ssl_cert_reqs=none&ssl_check_hostname=yes", "must not have ssl_check_hostn"),
        ("rediss://h?ssl_min_version=TLSv1_3", "unknown option"),
        ("redis://h?sentinel_password=geheim", "unknown option sentinel_password"),
        ("redis://h?user=geheim", "unknown option user; did you mean 'username'"),
        ("redis://h?max_age=5", "unknown option max_age; known are client_name, db"),
        ("redis://h/shop", "the number of a database"),
        ("redis://h/1/2", "the number of a database"),
        ("redis://h/1?db=2", "one database"),
        ("redis+cluster://h?db=1", "at most one database"),
        ("redis+sentinel://h/main/1?db=2", "at most one database"),
        ("redis://h/0#part", "percent-encoded"),
        ("redis://user#geheim@h/0", "percent-encoded"),
        ("redis://u:123?geheim&x@h/0", "percent-encoded"),
        ("redis://u:123/geheim@h/0", "percent-encoded"),
        ("unix://tmp/socket", "must be unix:///path/to/socket"),
        ("unix://", "must be unix:///path/to/socket"),
    ],
)
def test_a_rejected_url_gives_the_reason_and_no_secret(url: str, reason: str) -> None:
    with pytest.raises(InvalidSetting, match=reason) as raised:
        Metrics(url)
    assert "geheim" not in str(raised.value).replace("user=geheim", "")


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis:///0",
        "redis://h/0/",
        "redis://:p%40@h:1/15?client_name=app&health_check_interval=30&socket_keepalive=TRUE",
        "redis://h?db=3&username=u&pass%77ord=p",
        "unix:///tmp/s?db=3&password=p",
        "unix://u:p@/tmp/s",
        "rediss://h/0?ssl_ca_certs=/a&ssl_certfile=/b&ssl_keyfile=/c&ssl_password=p",
        "rediss://h?ssl_cert_reqs=none&ssl_check_hostname=false",
        "rediss+cluster://h?ssl_ca_path=/a&ssl_ca_data=x&ssl_ciphers=y&ssl_cert_reqs=optional",
        "redis+sentinel://h/main?db=2",
    ],
)
def test_allowed_options_are_accepted(url: str) -> None:
    Metrics(url).close()


def test_allowed_options_reach_the_connection_and_ours_stay(server: Server) -> None:
    options = "db=0&client_name=the-app&health_check_interval=30"
    store = Store(f"unix://{server.socket_path}?{options}", 1.5)
    client, loop_client = store.connect(retries=0), asyncio.run(store.aconnect(retries=0))
    for each in (client, loop_client):
        given = each.connection_pool.connection_kwargs  # type: ignore[union-attr]
        assert OURS.items() <= given.items()
        assert (given["client_name"], given["health_check_interval"]) == ("the-app", 30)
        assert not given.get("decode_responses")
    assert b"name=the-app" in client.execute_command("CLIENT", "LIST")  # type: ignore[union-attr]
    client.close()
    asyncio.run(loop_client.aclose())
    store.close()


@pytest.mark.skipif(not embedded.available(), reason="no embedded server for this machine")
def test_a_socket_of_the_embedded_server_may_have_special_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="rm %41?#") as runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        with Metrics(f"embedded://{quote(str(tmp_path / 'data'))}", worker=False) as metrics:
            metrics.increment("jobs")
            assert metrics.flush(5).stored == 1
