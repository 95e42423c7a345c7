"""The token and the Host header."""

import logging
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")

httpx = pytest.importorskip("httpx", reason="needs httpx")

from starlette.applications import Starlette
from starlette.routing import Mount

from redismetrics import InvalidSetting, Metrics
from redismetrics.api.app import create_app
from tests.fixtures.servers import PATIENT, Server
from tests.fixtures.webserver import error_message, running

TOKEN = "s3cret-t0ken"


def test_all_paths_but_probes_need_the_token(
    metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with (
        running(create_app(metrics, token=TOKEN, allow_write=True)) as at,
        httpx.Client(base_url=at, **PATIENT) as web,
    ):
        right = {"Authorization": f"Bearer {TOKEN}"}
        for path in ("/metrics", "/api/stats", "/openapi.json", "/api/stream", "/nowhere"):
            for wrong in (
                {},
                {"Authorization": TOKEN},
                {"Authorization": f"Basic {TOKEN}"},
                {"Authorization": "Bearer x"},
            ):
                refused = web.get(path, headers=wrong)
                error_message(refused, 401)
                assert refused.headers["www-authenticate"] == "Bearer"
        assert web.post("/api/record", json={"name": "x"}).status_code == 401
        assert metrics.stats()["recorded"] == 0
        assert web.get("/api/stats", headers=right).status_code == 200
        assert web.get("/healthz").status_code == web.get("/readyz").status_code == 200
    ours = [
        record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))
    ]
    assert all(TOKEN not in record.getMessage() for record in ours)


@pytest.mark.parametrize("token", ["", "two words", "käse", "line\n"])
def test_token_that_no_header_can_carry_is_rejected(metrics: Metrics, token: str) -> None:
    with pytest.raises(InvalidSetting, match="token must be visible ASCII") as caught:
        create_app(metrics, token=token)
    assert not token or token not in str(caught.value)


def test_mounted_application_needs_the_token_on_the_same_paths(metrics: Metrics) -> None:
    app = create_app(metrics, token="t0ken")
    outer = Starlette(routes=[Mount("/inner", app)])
    outer.state.service = app.state.service
    with running(outer) as at, httpx.Client(base_url=at, **PATIENT) as web:
        assert web.get("/inner/healthz").status_code == web.get("/inner/readyz").status_code == 200
        for path in (
            "/inner/api/stats",
            "/inner/healthz/",
            "/inner/healthz/../api/stats",
            "/inner//healthz",
        ):
            assert web.get(path).status_code == 401, path
        assert (
            web.get("/inner/api/stats", headers={"Authorization": "bearer t0ken"}).status_code
            == 200
        )


@pytest.mark.parametrize(
    "path",
    ["/api/stats", "/healthz/", "//healthz", "/healthz/..%2fapi/stats", "/healthz%00", "/ui"],
)
def test_paths_like_probes_need_the_token(metrics: Metrics, path: str) -> None:
    with running(create_app(metrics, token="t0ken")) as at:
        assert httpx.get(f"{at}{path}", **PATIENT).status_code == 401
        two = [("Authorization", "Bearer no"), ("Authorization", "Bearer t0ken")]
        assert httpx.get(f"{at}/api/stats", headers=two, **PATIENT).status_code == 401


def test_readyz_does_not_reveal_the_address_of_redis(
    fresh_server: Callable[..., Server],
) -> None:
    server = fresh_server()
    with Metrics(server.url, socket_timeout=0.5) as metrics:
        server.kill()
        with running(create_app(metrics, token="t0ken")) as at:
            assert (
                error_message(httpx.get(f"{at}/readyz", **PATIENT), 503) == "Redis does not answer"
            )


def test_localhost_only_rejects_other_hosts(metrics: Metrics) -> None:
    with (
        running(create_app(metrics, allow_write=True, localhost_only=True)) as at,
        httpx.Client(base_url=at, **PATIENT) as web,
    ):
        port = urlsplit(at).port
        for host in (
            "localhost",
            f"LOCALHOST:{port}",
            f"127.0.0.1:{port}",
            "127.8.9.1",
            f"[::1]:{port}",
            "[::1]",
        ):
            assert web.get("/api/names", headers={"Host": host}).status_code == 200, host
        for host in (
            f"evil.example:{port}",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "[::1",
            "",
            "0.0.0.0",
        ):
            refused = web.post("/api/record", json={"name": "jobs"}, headers={"Host": host})
            assert "Host must be localhost" in error_message(refused, 403), host
        assert metrics.stats()["recorded"] == 0
    with running(create_app(metrics)) as at:
        assert (
            httpx.get(f"{at}/api/names", headers={"Host": "metrics.example"}, **PATIENT).status_code
            == 200
        )


def test_requests_of_other_sites_pages_are_rejected(metrics: Metrics) -> None:
    with (
        running(create_app(metrics, allow_write=True)) as at,
        httpx.Client(base_url=at, **PATIENT) as web,
    ):
        cross = {"Sec-Fetch-Site": "cross-site"}
        for path in "/metrics", "/api/stats", "/api/stream", "/healthz":
            assert "cross-site" in error_message(web.get(path, headers=cross), 403)
        refused = web.post("/api/record", json={"name": "x"}, headers=cross)
        assert "cross-site" in error_message(refused, 403)
        for own in "same-origin", "same-site", "none":
            assert web.get("/api/stats", headers={"Sec-Fetch-Site": own}).status_code == 200
    assert metrics.stats()["recorded"] == 0


def test_one_token_reads_and_the_other_one_also_writes(metrics: Metrics) -> None:
    app = create_app(metrics, token=TOKEN, write_token="wr1te")
    with running(app) as at, httpx.Client(base_url=at, **PATIENT) as web:

        def headers(token: str) -> dict[str, str]:
            return {"Authorization": f"Bearer {token}"}

        for token, writable in ((TOKEN, False), ("wr1te", True)):
            info = web.get("/api/info", headers=headers(token))
            assert (info.status_code, info.json()["writable"]) == (200, writable)
        record = {"json": {"name": "jobs", "value": 1}}
        message = error_message(web.post("/api/record", **record, headers=headers(TOKEN)), 403)
        assert message.startswith("writing needs this server's write token")
        for method, path in (
            ("POST", "/v1/metrics"),
            ("POST", "/api/v1/write"),
            ("POST", "/api/v2/silences"),
            ("DELETE", "/api/v2/silence/some"),
        ):
            assert web.request(method, path, headers=headers(TOKEN)).status_code == 403, path
            assert web.request(method, path).status_code == 401, path
            assert web.request(method, path, headers=headers("wr1te")).status_code != 403, path
        assert web.post("/api/record", **record).status_code == 401
        assert metrics.stats()["recorded"] == 0
        assert web.post("/api/record", **record, headers=headers("wr1te")).status_code == 202
        assert metrics.stats()["recorded"] == 1


def test_with_a_write_token_alone_reading_needs_none(metrics: Metrics) -> None:
    with (
        running(create_app(metrics, write_token="wr1te")) as at,
        httpx.Client(base_url=at, **PATIENT) as web,
    ):
        assert web.get("/api/info").json()["writable"] is False
        assert web.post("/api/record", json={"name": "jobs"}).status_code == 403
        right = {"Authorization": "Bearer wr1te"}
        assert web.post("/api/record", json={"name": "jobs"}, headers=right).status_code == 202
        assert "security" in web.get("/openapi.json").json()["paths"]["/api/record"]["post"]


@pytest.mark.parametrize("allow_write", [False, True])
def test_without_a_write_token_readers_may_write_if_writing_is_allowed(
    metrics: Metrics, allow_write: bool
) -> None:
    app = create_app(metrics, token=TOKEN, allow_write=allow_write)
    with running(app) as at, httpx.Client(base_url=at, **PATIENT) as web:
        right = {"Authorization": f"Bearer {TOKEN}"}
        info = web.get("/api/info", headers=right).json()
        status = web.post("/api/record", json={"name": "jobs"}, headers=right).status_code
    assert (info["writable"], status) == (allow_write, 202 if allow_write else 404)
    assert info["namespace"] == metrics.settings.namespace
    assert info["retention"]["minute"] == 3 * 86_400
    assert info["limits"]["max_series"] == 20_000


def test_equal_tokens_are_rejected(metrics: Metrics) -> None:
    with pytest.raises(InvalidSetting, match="write_token must differ from token"):
        create_app(metrics, token=TOKEN, write_token=TOKEN)
    with pytest.raises(InvalidSetting, match="write_token must be visible ASCII"):
        create_app(metrics, write_token="two words")
