"""
The demo: a server of its own, four processes that record, and the questions of a newcomer. Prints nothing; cli/demo.py shows it.

    with Demo(seconds=6) as demo:      starts server and processes; ends and removes them, whatever happens
        for step in demo.record(): ... what is recorded, as the stream tells it
        outcome = demo.ask()           each call as one would type it, and what it returned

The processes are spawned, so this file needs core only. A process hears by its pipe that it may go, and by the pipe's end that
its parent has died or given up.
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
from redismetrics.store import embedded

PROCESSES = 4
MAX_SECONDS = (
    300  # the log of a metric is cut at 64 MiB, which the fastest machine fills in some 500 s
)
MAX_BARS = 12

_NAMESPACE = "demo"
_FRAME = 0.1  # s, between two looks of the parent, and between two words of a process
_LATEST = 2  # series of each metric whose newest sample is shown
_LONGEST_END = 30.0  # s; only a process that hangs takes them

# Shown before the demo begins, and what `_some_work` does.
RECORDING = """\
metrics = redismetrics.Metrics("embedded:///a/folder")
metrics.increment("jobs_completed", tags={"tenant": "cns", "status": "ok"})
metrics.gauge("queue_depth", 42, tags={"queue": "mail"})
metrics.histogram("response_time_seconds", 0.123, tags={"endpoint": "/api"})
metrics.record("experiment_result", {"value": 0.75, "model": "qwen", "dataset": "fever", "metric": "entailment_score"})"""

STREAM = (
    "jobs_*",
    "queue_depth",
    "experiment_result",
)  # not the response times, which are too many to look at

_QUEUES = ("sno_validation", "ingest", "mail", "reports")
_TENANTS = {"cns": 60, "crucible": 40, "tinkex": 20}  # jobs in a round
_ENDPOINTS = {"/api": 0.040, "/search": 0.120, "/upload": 0.450, "/health": 0.004}  # s, the median
_MODELS = {"llama-3.1": 0.72, "qwen": 0.68, "mistral": 0.61}  # the mean score
_DATASETS = {"scifact": 0.02, "fever": -0.03}


@dataclass(frozen=True, slots=True)
class Step:
    """Where the recording stands: samples recorded so far by all processes, and the latest of the stream, oldest first."""

    seconds: float
    recorded: int
    latest: list[Sample]


@dataclass(frozen=True, slots=True)
class Answer:
    """A call as one would type it, and what it returned."""

    call: str
    result: Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. *recorded* is what the processes counted, *stored* what the queries count.

    *seconds* is from the first recording to the confirmation of the last one.
    """

    recorded_by: dict[str, int]
    dropped: int
    stored: Answer
    seconds: float
    answers: dict[str, Answer]
    page: Answer

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
    """One run. A context manager; nothing is left of it afterwards, also after Ctrl-C."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._pipes: list[Connection] = []
        self._ends: list[dict[str, Any]] = []
        self._took = 0.0

    def __enter__(self) -> "Demo":
        with _undisturbed(), ExitStack() as stack:
            folder = Path(tempfile.mkdtemp(prefix="redismetrics-demo-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            server = embedded.join(folder)
            stack.callback(server.leave)
            stack.callback(embedded.stop, folder)  # first, and whoever uses it
            url = f"embedded://{quote(str(server.folder))}"
            self._metrics = stack.enter_context(Metrics(url, namespace=_NAMESPACE))
            self._stream = stack.enter_context(self._metrics.subscribe(STREAM))
            spawn = multiprocessing.get_context("spawn")
            for number in range(PROCESSES):
                ours, theirs = spawn.Pipe()
                process = spawn.Process(
                    target=_record, args=(number, url, self._seconds, theirs), daemon=True
                )
                self._pipes.append(ours)
                stack.callback(_end, process, ours)
                process.start()
                theirs.close()
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        with _undisturbed():
            for pipe in self._pipes:
                pipe.close()  # all at once, so that they end side by side
            self._exit.__exit__(*error)

    def record(self) -> Iterator[Step]:
        """Let the processes record, and yield every tenth of a second how far they are, until all is stored."""
        for pipe in self._pipes:
            self._hear(pipe)  # it is ready
        for pipe in self._pipes:
            pipe.send("go")
        recorded = [0] * len(self._pipes)
        latest: dict[str, dict[Any, Sample]] = {}
        began = time.monotonic()
        while len(self._ends) < len(self._pipes):
            for number, pipe in enumerate(self._pipes):
                while not pipe.closed and pipe.poll():
                    said = self._hear(pipe)
                    recorded[number] = said["recorded"]
                    if "writer" in said:  # its last word
                        self._ends.append(said)
                        pipe.close()
            until = time.monotonic() + _FRAME
            while (left := until - time.monotonic()) > 0:
                item = self._stream.get(left)
                if isinstance(item, Sample):
                    _keep(latest.setdefault(item.name, {}), item)
            self._took = time.monotonic() - began
            tail = sorted(
                (sample for each in latest.values() for sample in each.values()),
                key=lambda each: each.timestamp,
            )
            yield Step(min(self._took, self._seconds), sum(recorded), tail)
        self._stream.close()

    @staticmethod
    def _hear(pipe: Connection) -> Any:
        try:
            said = pipe.recv()
        except (EOFError, OSError) as error:
            raise RedisMetricsError("a process of the demo ended before its time") from error
        if isinstance(said, RedisMetricsError):
            raise said
        return said

    def ask(self) -> Outcome:
        """Ask what a newcomer would ask."""
        metrics = self._metrics
        answers = {
            "mean_by_model": _call(metrics, "query", "experiment_result", aggregation="mean", group_by="model"),
            "p95_by_endpoint": _call(metrics, "query", "response_time_seconds", aggregation="p95", group_by="endpoint"),
            "jobs_over_time": _call(
                metrics, "time_series", "jobs_completed", interval=self._interval(), aggregation="sum"
            ),
            "rollup": _call(
                metrics, "rollup", "experiment_result", group_by=("model", "dataset"),
                aggregations=("mean", "count", "p95"), window="last_hour",
            ),
        }  # fmt: skip
        stored = Answer(
            'sum(metrics.query(each["name"], aggregation="count") for each in metrics.list_metrics())',
            sum(
                metrics.query(each["name"], aggregation="count") for each in metrics.list_metrics()
            ),
        )
        return Outcome(
            recorded_by={end["writer"]: end["recorded"] for end in self._ends},
            dropped=sum(sum(end["dropped"].values()) for end in self._ends),
            stored=stored,
            seconds=self._took,
            answers=answers,
            page=Answer("export(metrics=metrics)", export(metrics=metrics)),
        )

    def _interval(self) -> str:
        wanted = self._seconds / MAX_BARS
        return f"{next(width for width in (1, 2, 5, 10, 15, 30) if width >= wanted)}s"


def _keep(latest: dict[Any, Sample], sample: Sample) -> None:
    """Keep the newest sample of each of the series heard of last."""
    series = tuple(sample.tags.items())
    latest.pop(series, None)
    latest[series] = sample
    if len(latest) > _LATEST:
        del latest[next(iter(latest))]


def _call(metrics: Metrics, verb: str, *args: Any, **options: Any) -> Answer:
    """Call it, and write it down: what is shown is what was done."""
    given = [repr(arg) for arg in args] + [f"{key}={value!r}" for key, value in options.items()]
    text = f"metrics.{verb}({', '.join(given)})".replace("'", '"')
    return Answer(text, getattr(metrics, verb)(*args, **options))


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let Ctrl-C and the like wait: half a start leaves a server, half an end a folder.

    What is started meanwhile never hears of them, which is right: the parent ends it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # its start, else with the first process's, unblocks SIGINT and SIGTERM
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    )
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(process: Any, pipe: Connection) -> None:
    pipe.close()
    if process.pid is None:  # it did not even start
        return
    process.join(_LONGEST_END)
    if process.is_alive():
        process.kill()
        process.join()
    process.close()


def _record(number: int, url: str, seconds: float, pipe: Connection) -> None:
    """Record for *seconds* from the word to go on; say every tenth of a second how much, and at the end how it went."""
    with pipe, suppress(EOFError, BrokenPipeError, ConnectionResetError):
        metrics = Metrics(url, namespace=_NAMESPACE, flush_interval=0.2)
        _declare(metrics)
        pipe.send("ready")
        pipe.recv()
        try:
            with metrics:
                _work(metrics, number, seconds, pipe)
                metrics.flush(_LONGEST_END)
        except RedisMetricsError as error:
            pipe.send(error)
        pipe.send(metrics.stats())


def _declare(metrics: Metrics) -> None:
    metrics.declare("jobs_completed", "counter", help="Jobs that came to an end, well or not.")
    metrics.declare("queue_depth", "gauge", help="Jobs that wait.")
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


def _work(metrics: Metrics, number: int, seconds: float, pipe: Connection) -> None:
    random = Random()
    queue = {"queue": _QUEUES[number % len(_QUEUES)]}
    depth = 50
    began = said = experiment = time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        depth = max(0, depth + random.randint(-5, 5))
        metrics.gauge("queue_depth", depth, tags=queue)
        _some_work(metrics, random)
        if now >= experiment:
            experiment += 0.05
            _experiment(metrics, random)
        if now >= said + _FRAME:
            said = now
            if pipe.poll():  # nothing is ever said to us here: it is the pipe's end
                return
            pipe.send({"recorded": metrics.stats()["recorded"]})
        time.sleep(
            0.001 * (1.5 + math.sin(now))
        )  # others want the machine, too; and a chart wants waves


def _some_work(metrics: Metrics, random: Random) -> None:
    for tenant, jobs in _TENANTS.items():
        failed = random.random() < 0.3
        for job in range(jobs):
            status = "failed" if failed and job == 0 else "ok"
            metrics.increment("jobs_completed", tags={"tenant": tenant, "status": status})
    for endpoint, typical in _ENDPOINTS.items():
        for _ in range(50):
            metrics.histogram(
                "response_time_seconds",
                typical * random.lognormvariate(0, 0.5),
                tags={"endpoint": endpoint},
            )


def _experiment(metrics: Metrics, random: Random) -> None:
    model, dataset = random.choice(list(_MODELS)), random.choice(list(_DATASETS))
    score = min(1.0, max(0.0, random.gauss(_MODELS[model] + _DATASETS[dataset], 0.1)))
    metrics.record(
        "experiment_result",
        {"value": score, "model": model, "dataset": dataset, "metric": "entailment_score"},
    )
