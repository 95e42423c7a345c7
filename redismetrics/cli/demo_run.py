"""
The demo without output: a temporary server, four processes that record, and sample queries.

    with Demo(seconds=6) as demo:           start server and processes; remove them at the end
        for progress in demo.record(): ...  the samples, as the stream delivers them
        result = demo.run_queries()         calls as text, and what they returned

With `traffic`, the processes record that until the demo ends; see `demo_page.py`.

The processes are spawned, so this file imports only what recording needs. A process waits for a
message on its pipe before it records, and ends when the pipe is closed, for example because its
parent died.
"""

import math
import multiprocessing
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

from redismetrics.client.metrics import Metrics
from redismetrics.errors import RedisMetricsError
from redismetrics.export.prometheus import export
from redismetrics.model.sample import Sample
from redismetrics.model.time import monotonic
from redismetrics.store import embedded

from .demo_alert import run_alert
from .demo_traffic import Traffic

PROCESSES = 4

# The log of a metric is cut at 64 MiB, which takes the fastest machine about 500 s to fill.
MAX_SECONDS = 300

# Bars of the time series, at most.
MAX_BARS = 12

_NAMESPACE = "demo"

# Seconds between two steps of `record`, and between two messages of a process.
_STEP_SECONDS = 0.1

# Series of each metric whose newest sample is shown.
_SHOWN_SERIES = 2

# Seconds to wait for a process to exit; only one that hangs takes this long.
_END_TIMEOUT = 30.0

# Shown before the demo begins. The processes record the same.
RECORDING = (
    'metrics = redismetrics.Metrics("embedded:///a/folder")',
    'metrics.increment("jobs_completed", tags={"tenant": "cns", "status": "ok"})',
    'metrics.gauge("queue_depth", 42, tags={"queue": "mail"})',
    'metrics.histogram("response_time_seconds", 0.123, tags={"endpoint": "/api"})',
    (
        'metrics.record("experiment_result", {"value": 0.75, "model": "qwen", "dataset": "fever", '
        '"metric": "entailment_score"})'
    ),
)

# Metrics shown by the stream, without response times, because there are too many.
STREAM = ("jobs_*", "queue_depth", "experiment_result")

_QUEUES = ("sno_validation", "ingest", "mail", "reports")
# Jobs per round.
_TENANTS = {"cns": 60, "crucible": 40, "tinkex": 20}
# Median response time in seconds.
_ENDPOINTS = {"/api": 0.040, "/search": 0.120, "/upload": 0.450, "/health": 0.004}
# Mean score, and the offset per data set.
_MODELS = {"llama-3.1": 0.72, "qwen": 0.68, "mistral": 0.61}
_DATASETS = {"scifact": 0.02, "fever": -0.03}


@dataclass(frozen=True, slots=True)
class DemoProgress:
    """Samples recorded so far by all processes, and the newest from the stream, oldest first."""

    seconds: float
    recorded: int
    latest: list[Sample]


@dataclass(frozen=True, slots=True)
class Call:
    """A call as text, and its result."""

    text: str
    result: Any


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The result of the demo.

    *recorded* is counted by the processes, *stored* by queries. *seconds* is the time from the
    first recording to the confirmation of the last. *alerts* are state changes; see `run_alert`.
    """

    recorded_by: dict[str, int]
    dropped: int
    stored: Call
    seconds: float
    queries: dict[str, Call]
    page: Call
    alerts: list[dict[str, Any]] | None = None

    @property
    def recorded(self) -> int:
        return sum(self.recorded_by.values())

    @property
    def per_second(self) -> int:
        return round(self.recorded / self.seconds)

    @property
    def exact(self) -> bool:
        return self.recorded == self.stored.result and not self.dropped


class Demo:
    """One run of the demo. A context manager that leaves nothing behind, even after Ctrl-C.

    *folder* is the temporary folder of its server, and *metrics* a client connected to it.
    """

    folder: Path
    metrics: Metrics

    def __init__(self, seconds: float, traffic: Traffic | None = None) -> None:
        self._seconds = seconds
        self._traffic = traffic
        self._pipes: list[Connection] = []
        self._final_stats: list[dict[str, Any]] = []
        self._elapsed = 0.0

    def __enter__(self) -> "Demo":
        with _signals_blocked(), ExitStack() as stack:
            folder = Path(tempfile.mkdtemp(prefix="redismetrics-demo-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            server = embedded.join(folder)
            stack.callback(server.leave)
            # Runs before the callbacks above, even if other processes use the server.
            stack.callback(embedded.stop, folder)
            url = f"embedded://{quote(str(server.folder))}"
            self.folder = folder
            self.metrics = stack.enter_context(Metrics(url, namespace=_NAMESPACE))
            if self._traffic is None:
                self._stream = stack.enter_context(self.metrics.subscribe(STREAM))
            spawn = multiprocessing.get_context("spawn")
            for number in range(PROCESSES):
                ours, theirs = spawn.Pipe()
                work = (number, url, self._seconds, self._traffic, theirs)
                process = spawn.Process(target=_run_process, args=work, daemon=True)
                self._pipes.append(ours)
                stack.callback(_end_process, process, ours)
                process.start()
                theirs.close()
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        with _signals_blocked():
            # All are closed before the first is waited for, so that the processes end together.
            for pipe in self._pipes:
                pipe.close()
            self._exit.__exit__(*error)

    def start(self) -> None:
        """Tell the processes to start recording."""
        for pipe in self._pipes:
            # The process is ready.
            self._receive(pipe)
        for pipe in self._pipes:
            pipe.send("go")

    def record(self) -> Iterator[DemoProgress]:
        """Start recording; yield the progress every 0.1 s until everything is stored."""
        self.start()
        recorded = [0] * len(self._pipes)
        latest: dict[str, dict[Any, Sample]] = {}
        began = monotonic()
        while len(self._final_stats) < len(self._pipes):
            for number, pipe in enumerate(self._pipes):
                while not pipe.closed and pipe.poll():
                    stats = self._receive(pipe)
                    recorded[number] = stats["recorded"]
                    # Only the last message has all statistics.
                    if "writer" in stats:
                        self._final_stats.append(stats)
                        pipe.close()
            until = monotonic() + _STEP_SECONDS
            while (left := until - monotonic()) > 0:
                item = self._stream.get(left)
                if isinstance(item, Sample):
                    _keep_newest(latest.setdefault(item.name, {}), item)
            self._elapsed = monotonic() - began
            tail = sorted(
                (sample for each in latest.values() for sample in each.values()),
                key=lambda each: each.timestamp,
            )
            yield DemoProgress(min(self._elapsed, self._seconds), sum(recorded), tail)
        self._stream.close()

    @staticmethod
    def _receive(pipe: Connection) -> Any:
        try:
            message = pipe.recv()
        except (EOFError, OSError) as error:
            raise RedisMetricsError("a process of the demo ended too early") from error
        if isinstance(message, RedisMetricsError):
            raise message
        return message

    def run_queries(self) -> DemoResult:
        """Run the sample queries."""
        metrics = self.metrics
        queries = {
            "mean_by_model": _call(
                metrics, "query", "experiment_result", aggregation="mean", group_by="model"
            ),
            "p95_by_endpoint": _call(
                metrics, "query", "response_time_seconds", aggregation="p95", group_by="endpoint"
            ),
            "jobs_over_time": _call(
                metrics,
                "time_series",
                "jobs_completed",
                interval=self._interval(),
                aggregation="sum",
            ),
            "rollup": _call(
                metrics,
                "rollup",
                "experiment_result",
                group_by=("model", "dataset"),
                aggregations=("mean", "count", "p95"),
                window="last_hour",
            ),
        }
        stored = Call(
            'sum(metrics.query(each["name"], aggregation="count") '
            "for each in metrics.list_metrics())",
            sum(
                metrics.query(each["name"], aggregation="count") for each in metrics.list_metrics()
            ),
        )
        return DemoResult(
            recorded_by={stats["writer"]: stats["recorded"] for stats in self._final_stats},
            dropped=sum(sum(stats["dropped"].values()) for stats in self._final_stats),
            stored=stored,
            seconds=self._elapsed,
            queries=queries,
            page=Call("export(metrics=metrics)", export(metrics=metrics)),
            # Last, because it records the states of alerts.
            alerts=run_alert(metrics),
        )

    def _interval(self) -> str:
        """Return the shortest interval that gives at most MAX_BARS bars."""
        seconds = self._seconds / MAX_BARS
        return f"{next(width for width in (1, 2, 5, 10, 15, 30) if width >= seconds)}s"


def _keep_newest(latest: dict[Any, Sample], sample: Sample) -> None:
    """Keep the newest sample of each of the most recently recorded series."""
    series = tuple(sample.tags.items())
    latest.pop(series, None)
    latest[series] = sample
    if len(latest) > _SHOWN_SERIES:
        del latest[next(iter(latest))]


def _call(metrics: Metrics, method: str, *args: Any, **options: Any) -> Call:
    """Call a method and return the call as text, so that the text always matches what ran."""
    given = [repr(arg) for arg in args] + [f"{key}={value!r}" for key, value in options.items()]
    text = f"metrics.{method}({', '.join(given)})".replace("'", '"')
    return Call(text, getattr(metrics, method)(*args, **options))


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block signals such as Ctrl-C: an interrupted start or stop would leave a server or a folder.

    Processes started in the meantime never receive these signals; their parent ends them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # If it started with the first process, it would unblock SIGINT and SIGTERM.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    )
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_process(process: Any, pipe: Connection) -> None:
    pipe.close()
    # It was never started.
    if process.pid is None:
        return
    process.join(_END_TIMEOUT)
    if process.is_alive():
        process.kill()
        process.join()
    process.close()


def _run_process(
    number: int, url: str, seconds: float, traffic: Traffic | None, pipe: Connection
) -> None:
    """Record for *seconds*; send the number recorded every 0.1 s, and the stats at the end.

    With *traffic*, record that until the pipe is closed, and send nothing.
    """
    with pipe, suppress(EOFError, BrokenPipeError, ConnectionResetError):
        metrics = Metrics(url, namespace=_NAMESPACE, flush_interval=0.2)
        if traffic is None:
            _declare(metrics)
        pipe.send("ready")
        pipe.recv()
        try:
            with metrics:
                if traffic is None:
                    _record_for(seconds, metrics, number, pipe)
                else:
                    traffic.record_until(pipe.poll, metrics, number)
                metrics.flush(_END_TIMEOUT)
        except RedisMetricsError as error:
            pipe.send(error)
        pipe.send(metrics.stats())


def _declare(metrics: Metrics) -> None:
    metrics.declare("jobs_completed", "counter", help="Jobs that ended, with or without success.")
    metrics.declare("queue_depth", "gauge", help="Jobs waiting.")
    metrics.declare(
        "response_time_seconds",
        "histogram",
        unit="seconds",
        help="From the request to the last byte.",
    )
    metrics.declare(
        "experiment_result",
        "histogram",
        help="Scores of experiments.",
        buckets=(0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    )


def _record_for(seconds: float, metrics: Metrics, number: int, pipe: Connection) -> None:
    random = Random()
    queue = {"queue": _QUEUES[number % len(_QUEUES)]}
    depth = 50
    began = reported = experiment = monotonic()
    while (now := monotonic()) < began + seconds:
        depth = max(0, depth + random.randint(-5, 5))
        metrics.gauge("queue_depth", depth, tags=queue)
        _record_round(metrics, random)
        if now >= experiment:
            experiment += 0.05
            _record_experiment(metrics, random)
        if now >= reported + _STEP_SECONDS:
            reported = now
            # The parent never sends anything here: the pipe was closed.
            if pipe.poll():
                return
            pipe.send({"recorded": metrics.stats()["recorded"]})
        # Yield the CPU to others; the sine makes waves in the chart.
        time.sleep(0.001 * (1.5 + math.sin(now)))


def _record_round(metrics: Metrics, random: Random) -> None:
    for tenant, jobs in _TENANTS.items():
        failed = random.random() < 0.3
        for job in range(jobs):
            status = "failed" if failed and job == 0 else "ok"
            metrics.increment("jobs_completed", tags={"tenant": tenant, "status": status})
    for endpoint, median in _ENDPOINTS.items():
        for _ in range(50):
            metrics.histogram(
                "response_time_seconds",
                median * random.lognormvariate(0, 0.5),
                tags={"endpoint": endpoint},
            )


def _record_experiment(metrics: Metrics, random: Random) -> None:
    model, dataset = random.choice(list(_MODELS)), random.choice(list(_DATASETS))
    score = min(1.0, max(0.0, random.gauss(_MODELS[model] + _DATASETS[dataset], 0.1)))
    metrics.record(
        "experiment_result",
        {"value": score, "model": model, "dataset": dataset, "metric": "entailment_score"},
    )
