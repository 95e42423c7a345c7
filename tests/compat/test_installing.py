"""Installing: too early, too late, and without a server."""

from collections.abc import Callable

import pytest

from redismetrics.compat import prometheus_client
from redismetrics.errors import InvalidSetting
from tests.fixtures.programs import Programs, parse_page
from tests.fixtures.servers import PROCESS_PATIENCE, Server

LATE = """
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
    jobs = Counter("jobs", "Jobs", ["queue"])
    mail = jobs.labels("mail")
    mail.inc(3)
    private = Counter("private", "Jobs", registry=CollectorRegistry())
    private.inc(4)
    wait = Histogram("wait", "Wait", buckets=[1, 5])
    for value in (0.5, 4, 4, 9):
        wait.observe(value)
    size = Summary("size", "Size")
    size.observe(2.5)
    level = Gauge("level", "Level", multiprocess_mode="mostrecent")
    level.set(6)
"""


def test_importing_changes_nothing_and_hands_on_all_names() -> None:
    import prometheus_client as real

    assert set(real.__all__) < set(prometheus_client.__all__)
    for name in real.__all__:
        assert getattr(prometheus_client, name) is getattr(real, name)
    from redismetrics.compat.prometheus_client.multiprocess import MultiProcessCollector

    assert MultiProcessCollector is real.multiprocess.MultiProcessCollector
    assert prometheus_client.core is real.core
    # Not installed.
    assert real.values.ValueClass is real.values.MutexValue


def test_without_the_package_the_message_says_what_to_install(programs: Programs) -> None:
    out = programs.run("""
        import sys
        sys.modules["prometheus_client"] = None
        try:
            import redismetrics.compat.prometheus_client
        except ImportError as error:
            print(type(error).__name__, error)
    """)
    assert out == (
        "MissingExtra redismetrics.compat.prometheus_client needs prometheus_client: "
        "pip install 'redismetrics[prometheus]'\n"
    )


@pytest.mark.slow
def test_existing_metrics_are_taken_over_with_their_counts(programs: Programs) -> None:
    install = "\n    from redismetrics.compat.prometheus_client import install\n    install()\n"
    after = """
    mail.inc(); private.inc(); wait.observe(4); size.observe(1)
    assert (mail._value.get(), wait._sum.get(), wait._buckets[1].get()) == (4, 21.5, 3)
    """
    programs.run(LATE + install + after)
    assert programs.page() == {
        'jobs_total{queue="mail"}': 4,
        "private_total": 5,
        'wait_bucket{le="1.0"}': 1,
        'wait_bucket{le="5.0"}': 4,
        'wait_bucket{le="+Inf"}': 5,
        "wait_count": 5,
        "wait_sum": 21.5,
        "size_count": 2,
        "size_sum": 3.5,
        "level": 6,
    }


@pytest.mark.slow
def test_a_second_install_changes_nothing_unless_it_differs(programs: Programs) -> None:
    out = programs("""
        from prometheus_client import Counter, values
        before = values.ValueClass
        install()
        assert values.ValueClass is before
        try:
            install("redis://elsewhere:6379/0", "other")
        except ValueError as error:
            print(error)
    """)
    assert out.startswith("install() must have the url and the namespace of the first call: ")
    assert "other" in out


def test_install_without_a_server_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDISMETRICS_URL", raising=False)
    with pytest.raises(InvalidSetting, match=r"^install\(\) needs a server: set REDISMETRICS_URL"):
        prometheus_client.install(namespace="x")


def test_an_invalid_url_is_an_error_at_install() -> None:
    with pytest.raises(InvalidSetting, match=r"^url must start with one of redis://"):
        prometheus_client.install("localhost:6379")


@pytest.mark.slow
def test_counting_goes_on_without_redis_and_a_page_has_the_status_503(
    programs: Programs, fresh_server: Callable[..., Server]
) -> None:
    server = fresh_server()
    programs.environment |= {"REDISMETRICS_URL": server.url, "REDISMETRICS_SOCKET_TIMEOUT": "0.2"}
    server.kill()
    process = programs.start(
        """
        import asyncio, sys, time
        from prometheus_client import Counter, generate_latest, make_asgi_app, make_wsgi_app
        from wsgiref.util import setup_testing_defaults
        jobs = Counter("jobs", "Jobs")
        jobs.inc()
        environ, statuses = {}, []
        setup_testing_defaults(environ)
        async def receive():
            return {"type": "http.request"}
        async def send(message):
            statuses.append(message.get("status"))
        def show():
            body = b"".join(make_wsgi_app()(environ, lambda status, _: statuses.append(status)))
            scope = {"type": "http", "headers": []}
            asyncio.run(make_asgi_app()(scope, receive, send))
            print(statuses[0], statuses[1], body.decode().splitlines()[0], sep="|", flush=True)
            statuses.clear()
        show()
        sys.stdin.readline()
        jobs.inc()
        for _ in range(100):
            try:
                generate_latest()
                break
            except Exception:
                time.sleep(0.1)
        print(generate_latest().decode())
    """,
        stdin=-1,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("503 Service Unavailable|503|"), line
    server.restart()
    out, err = process.communicate("\n", timeout=PROCESS_PATIENCE)
    assert parse_page(out)["jobs_total"] == 2, err
    assert err.count("prometheus_client counts in memory until Redis answers") == 1


@pytest.mark.slow
def test_views_of_frameworks_have_the_status_503_without_redis(
    programs: Programs, fresh_server: Callable[..., Server]
) -> None:
    pytest.importorskip("flask")
    pytest.importorskip("fastapi")
    server = fresh_server()
    programs.environment |= {"REDISMETRICS_URL": server.url, "REDISMETRICS_SOCKET_TIMEOUT": "0.2"}
    server.kill()
    out = programs("""
        import fastapi, flask
        from fastapi.testclient import TestClient
        from prometheus_client import Counter, generate_latest
        Counter("jobs", "Jobs").inc()
        fast, lask = fastapi.FastAPI(), flask.Flask("app")
        @fast.get("/metrics")
        def show_fast(): return generate_latest()
        @lask.get("/metrics")
        def show_flask(): return generate_latest()
        print(TestClient(fast).get("/metrics").status_code,
              lask.test_client().get("/metrics").status_code)
        from redismetrics import StoreUnavailable
        try:
            generate_latest()
        except StoreUnavailable as error:
            print(error)
    """)
    assert out.startswith("503 503\n"), out
    assert "Redis" in out


@pytest.mark.slow
def test_a_constructor_that_fails_leaves_nothing(programs: Programs) -> None:
    programs("""
        from prometheus_client import Counter, Gauge
        Counter("jobs", "Jobs").inc()
        try:
            Gauge("jobs_total", "Taken")
        except ValueError as error:
            assert str(error).startswith("Duplicated timeseries in CollectorRegistry:")
    """)
    assert programs.page() == {"jobs_total": 1}


@pytest.mark.slow
def test_an_asgi_page_is_read_while_other_requests_are_answered(programs: Programs) -> None:
    out = programs("""
        import asyncio, threading
        from prometheus_client import Counter, REGISTRY, make_asgi_app
        Counter("jobs", "Jobs").inc(3)
        names = []
        class Watch:
            def collect(self):
                names.append(threading.current_thread() is threading.main_thread())
                return []
        REGISTRY.register(Watch())
        names.clear()
        async def receive():
            return {"type": "http.request"}
        async def send(message):
            if "body" in message:
                print(message["body"].decode())
        scope = {"type": "http", "headers": [], "query_string": b"name[]=jobs_total"}
        asyncio.run(make_asgi_app()(scope, receive, send))
        print("#", names)
    """)
    assert parse_page(out) == {"jobs_total": 3}
    assert out.endswith("# [False]\n")
