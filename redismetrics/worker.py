"""The worker: seals logs into minutes, makes hours and days of them, and tidies. Any number may run on one namespace.

`python -m redismetrics.worker`, `redismetrics worker`, or a thread inside `Metrics(worker=True)`. Who works on which metric only
spares double work; that nothing is lost or doubled rests on the commits alone (commits.py).
"""

import argparse
import json
import logging
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, fields
from functools import partial
from hashlib import blake2b
from queue import SimpleQueue
from time import monotonic, perf_counter
from typing import Any, TypeVar

from . import commits, figures, operations, wsgi
from .commits import Metric, Outcome, Result
from .connect import Store, safe_url
from .drive import Client, Operation, run, together
from .errors import InvalidSetting, RedisMetricsError, StoreError, StoreUnavailable
from .exposition import content_type, render
from .operations import Config
from .settings import DEFAULT_CALENDAR, Settings, calendar, resolve

log = logging.getLogger("redismetrics")

T = TypeVar("T")

INTERVAL = 5.0  # seconds between passes
PATIENCE = 4  # so many intervals may what is little wait
SIDE_BY_SIDE = 32  # metrics are worked on in the same round trips
AT_MOST = 1_000  # pieces of pending work are read at once
TRIES = 5  # of one piece of work in a pass, when somebody else was first
PRUNE_EVERY_MS = 3_600_000
BACKOFF, LONGEST_BACKOFF = 0.5, 15.0


@dataclass(slots=True)
class Counts:
    """What a worker did since it began; `stats` of the command shows it."""

    passes: int = 0
    blocks: int = 0
    samples: int = 0
    bytes: int = 0
    late: int = 0
    slots: int = 0
    conflicts: int = 0
    failures: int = 0
    writers_pruned: int = 0
    series_pruned: int = 0
    pass_seconds: float = 0.0
    lag_ms: int = 0
    last_error: str | None = field(default=None)

    @property
    def lag_seconds(self) -> float:
        return self.lag_ms / 1000

    def as_dict(self) -> dict[str, int | float | str | None]:
        return {each.name: getattr(self, each.name) for each in fields(self)} | {"lag_seconds": self.lag_seconds}


class Worker:
    """One worker of one namespace; `pass_once` does what is due, `run` goes on until stopped.

    *tells*: of retentions other than the namespace's; in a recording process the sender does.
    """

    def __init__(self, settings: Settings, store: Store, *, tells: bool = True) -> None:
        self.settings = settings
        self.store = store
        self.tells = tells
        self.id = secrets.token_hex(8)
        self.counts = Counts()
        self.stop = threading.Event()
        self._client: Client | None = None
        self._config: Config | None = None
        self.away: str | None = None  # why no pass can be done at present
        self.moved_at = monotonic()  # when a piece of a pass was last done: the first after an outage may take long
        self._pruned_ms = 0
        self._failed: set[str] = set()

    # -- one pass -----------------------------------------------------------------------------------------------

    def pass_once(self, *, alone: bool = False, patience: float = 0.0) -> int:
        """Seal what was recorded, make the slots that are due, tidy; return how many pieces of work were done.

        *alone*: do the shares of other workers too, whether they are there or not. *patience*: a few blocks of a metric
        wait so many seconds, since sealing them costs as much as sealing many.

        Raises:
            StoreError: Redis is away, or refuses; what was committed before stays, and the rest is as it was.
        """
        began = perf_counter()
        client = self._connected()
        if self._config is None:
            self._config = self._open(client)
        now_ms, live = run(client, operations.heartbeat(self.settings.namespace, self.id))
        if alone:
            live = [self.id]
        failures, done = self.counts.failures, 0
        self.counts.lag_ms = 0
        for shard in range(self._config.shards):
            dirty = run(client, operations.dirty(self.settings.namespace, shard))
            mine = [name for name in dirty if self._is_mine(name, live)]
            for names in _batches(mine, SIDE_BY_SIDE):
                done += self._work(client, shard, names, partial(commits.seal, patience_ms=1000 * patience))
                if self.stop.is_set():
                    return done
            done += self._make_due(client, shard, now_ms, live)
        if now_ms - self._pruned_ms >= PRUNE_EVERY_MS and not self.stop.is_set():
            self._pruned_ms = now_ms
            self._prune_writers(client)
        if self.counts.failures == failures:
            self.counts.last_error = None
        self.counts.passes += 1
        self.counts.pass_seconds = perf_counter() - began
        self.moved_at = monotonic()
        return done

    def _open(self, client: Client) -> Config:
        wanted = calendar(self.settings)
        config = run(client, operations.open_namespace(self.settings.namespace, wanted, self.store.shards))
        if self.tells and config.calendar != wanted and wanted != DEFAULT_CALENDAR:
            log.warning(
                "namespace %s was made with other retentions, and those hold: %s (seconds), not this process's %s",
                self.settings.namespace, config.calendar.describe(), wanted.describe(),
            )  # fmt: skip
        return config

    def _make_due(self, client: Client, shard: int, now_ms: int, live: list[str]) -> int:
        """Make the slots that are due, the finer first."""
        done = left = 0
        while not self.stop.is_set():
            # Beyond what stays pending: the shares of others, what failed, what waits for something finer.
            found = run(client, operations.pending(self.settings.namespace, shard, now_ms, left, AT_MOST))
            work = [(what, name) for what, name in found if self._is_mine(name, live)]
            before = done
            for rank in ("hour ", "day ", commits.SPAN, commits.FOLD, "trim", "sweep"):
                for batch in _batches([each for each in work if each[0].startswith(rank)], SIDE_BY_SIDE):
                    # Of one metric only one at a time: each commit makes what the others have read old.
                    for turn in _turns(batch):
                        done += self._work(client, shard, [name for _, name in turn], _making(turn))
                        if self.stop.is_set():
                            return done
            left += max(len(found) - (done - before), 0)
            if len(found) < AT_MOST:
                break
        return done

    def _work(self, client: Client, shard: int, names: list[str], make: Callable[[Metric], Operation[Result]]) -> int:
        """Do one kind of work on several metrics side by side, again where somebody else was first, on where there is more."""
        assert self._config is not None
        if len(names) > 1 and not self._failed.isdisjoint(names):  # what failed before goes alone: it takes none along
            sound = [name for name in names if name not in self._failed]
            apart = [[name] for name in names if name in self._failed]
            return sum(self._work(client, shard, part, make) for part in (sound, *apart))
        metrics = [Metric(self.settings.namespace, shard, name, self._config.calendar) for name in names]
        done, tries = 0, TRIES
        while metrics and tries and not self.stop.is_set():
            try:
                results = run(client, together([make(metric) for metric in metrics]))
            except StoreUnavailable:
                raise
            except Exception as error:  # noqa: BLE001  whatever is wrong with one metric must not stop the others
                if len(metrics) > 1:  # one of them: each by itself, so that it holds up no other
                    return done + sum(self._work(client, shard, [metric.name], make) for metric in metrics)
                self._fail(metrics[0].name, error)
                return done
            self.moved_at = monotonic()
            again = []
            for metric, result in zip(metrics, results, strict=True):
                if result.outcome in (Outcome.DONE, Outcome.MORE):
                    done += 1
                    self._count(result)
                if result.outcome in (Outcome.AGAIN, Outcome.MORE):
                    again.append(metric)
                self.counts.conflicts += result.outcome is Outcome.AGAIN
            if any(result.outcome is Outcome.AGAIN for result in results):
                tries -= 1
            metrics = again
        return done

    def _count(self, result: Result) -> None:
        self.counts.blocks += result.blocks
        self.counts.samples += result.samples
        self.counts.bytes += result.bytes
        self.counts.late += result.late
        self.counts.series_pruned += result.forgotten
        self.counts.lag_ms = max(self.counts.lag_ms, result.waited_ms)
        self.counts.slots += not result.blocks

    def _fail(self, name: str, error: Exception) -> None:
        self.counts.failures += 1
        self.counts.last_error = f"{name}: {error}"
        if name not in self._failed:
            self._failed.add(name)
            ours = isinstance(error, RedisMetricsError)
            log.error("%s: can't be sealed or rolled up: %s", name, error if ours else repr(error), exc_info=not ours)

    def _is_mine(self, name: str, live: list[str]) -> bool:
        """Rendezvous hashing: each metric has its own order of the workers, so one that comes or goes moves only its share.

        Not by a CRC: those of two workers differ by the same bits whatever the name, so of three one got half of the names.
        """

        def rank(worker: str) -> bytes:
            return blake2b(f"{worker} {name}".encode(), digest_size=8).digest()

        return max(live, key=rank, default=self.id) == self.id

    def _prune_writers(self, client: Client) -> None:
        assert self._config is not None
        for shard in range(self._config.shards):
            self.counts.writers_pruned += run(
                client, operations.prune_writers(self.settings.namespace, shard, self._config.calendar)
            )

    # -- for as long as it runs ---------------------------------------------------------------------------------

    def run(self, interval: float = INTERVAL) -> None:
        """Pass after pass until `stop` is set. Redis away is told once and waited for."""
        backoff = BACKOFF
        while not self.stop.is_set():
            try:
                self.pass_once(patience=PATIENCE * interval)
            except Exception as error:
                if isinstance(error, RedisMetricsError) and not isinstance(error, StoreError):
                    raise  # a setting: nothing to wait for
                if self.away is None and isinstance(error, StoreError):
                    log.warning("the worker waits for %s: %s", safe_url(self.store.url), error)
                elif self.away is None:
                    log.exception("BUG: a pass of the worker failed")
                self.away = self.counts.last_error = str(error) or repr(error)
                self.disconnect()  # and no `renew`: an embedded server that was stopped is started by who records, not by us
                pause, backoff = backoff, min(2 * backoff, LONGEST_BACKOFF)
            else:
                if self.away is not None:
                    log.info("%s answers again", safe_url(self.store.url))
                self.away, backoff = None, BACKOFF
                pause = max(interval, 3 * self.counts.pass_seconds)  # at most a quarter of one core
            self.stop.wait(pause)
        self.leave()

    def once(self) -> Iterator[Counts]:
        """Pass after pass until nothing is due, yielding the counts after each; raises `StoreError`."""
        while True:
            done = self.pass_once(alone=True)
            yield self.counts
            if not done or self.stop.is_set():
                break
        self.leave()

    def _connected(self) -> Client:
        if self._client is None:
            self._client = self.store.connect(retries=0)
        return self._client

    def disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def leave(self) -> None:
        """Take the heartbeat back, so that others take over at once; never raises."""
        try:
            if self._client is not None:
                run(self._client, operations.leave(self.settings.namespace, self.id))
        except StoreError as error:
            log.debug("the worker left without saying so: %s", error)
        self.disconnect()


class Thread:
    """The worker inside a recording process: starts with its first recording, ends with its client. A fork leaves it behind."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store
        self.reset()

    def reset(self) -> None:
        """The child's side of a fork: the worker is the parent's."""
        self.worker: Worker | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start it, where it is wanted and doesn't run yet; raises RuntimeError where no thread can be started."""
        wanted = self._settings.worker
        if wanted is None:
            wanted = self._store.url.startswith("embedded:")
        if wanted and (self._thread is None or not self._thread.is_alive()):
            self.worker = Worker(self._settings, self._store, tells=False)
            self._thread = threading.Thread(target=self._work, name="redismetrics-worker", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        """Begin after one interval: before it there is nothing to seal, and a short script needs no second connection."""
        worker = self.worker
        if worker is not None:
            worker.stop.wait(INTERVAL)
            worker.run()

    def stop(self) -> None:
        """Let it end after the commit in hand."""
        if self.worker is not None:
            self.worker.stop.set()

    def join(self, timeout: float) -> None:
        """Wait until it has ended."""
        if self._thread is not None:
            self._thread.join(timeout)


def _making(turn: Iterable[tuple[str, str]]) -> Callable[[Metric], Operation[Result]]:
    jobs = {name: what for what, name in turn}

    def make(metric: Metric) -> Operation[Result]:
        what = jobs[metric.name]
        tidy = {commits.TRIM: commits.trim, commits.SWEEP: commits.sweep}.get(what)
        return commits.make(metric, what) if tidy is None else tidy(metric)

    return make


def _batches(items: list[T], size: int) -> Iterable[list[T]]:
    return (items[at : at + size] for at in range(0, len(items), size))


def _turns(batch: list[tuple[str, str]]) -> Iterable[list[tuple[str, str]]]:
    """Lists in which no metric comes twice, together *batch*."""
    left = batch
    while left:
        turn = {name: (what, name) for what, name in reversed(left)}
        yield list(turn.values())
        left = [each for each in left if turn[each[1]] is not each and turn[each[1]] != each]


# -- python -m redismetrics.worker --------------------------------------------------------------------------------


def main(
    argv: list[str] | None = None,
    *,
    prog: str = "python -m redismetrics.worker",
    watch: Callable[[Worker], AbstractContextManager[object]] = nullcontext,
) -> int:
    """Work until SIGTERM or SIGINT, or until nothing is due. Returns 0, or 1 when the store can't be asked.

    *watch* is entered around the work of `--once`: it may show how that goes on.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Seal what was recorded, roll it up to minutes, hours and days, and prune what is past its retention.",
    )
    parser.add_argument("--url", help="where the store is (default: REDISMETRICS_URL)")
    parser.add_argument("--namespace", metavar="NS", help="which share of the store (default: REDISMETRICS_NAMESPACE)")
    parser.add_argument("--once", action="store_true", help="do all that is due, and leave")
    parser.add_argument(
        "--interval", type=float, default=INTERVAL, metavar="S", help="seconds between passes (default: %(default)g)"
    )
    parser.add_argument(
        "--metrics-port",
        metavar="[HOST:]PORT",
        type=_metrics_address,
        help="answer /metrics and /healthz about the worker itself",
    )
    parser.add_argument("--json", action="store_true", help="with --once: what was done as one JSON object")
    given = parser.parse_args(argv)
    if given.json and not given.once:
        parser.error("--json: wanted beside --once")
    if not 0.1 <= given.interval <= 3600:
        parser.error(f"--interval: wanted 0.1 to 3600 seconds, got {given.interval:g}")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        settings = resolve(url=given.url, namespace=given.namespace)
        store = Store(settings.url, settings.socket_timeout)
    except InvalidSetting as error:
        parser.error(str(error))
    except RedisMetricsError as error:
        print(_sentence(error), file=sys.stderr)
        return 1
    if (settings.url or "").startswith("none:"):
        parser.error("url: none:// keeps nothing: there is nothing to work on")
    worker = Worker(settings, store)
    _stop_by_signal(worker)
    try:
        with _answering(worker, given.metrics_port, given.interval):
            if given.once:
                with watch(worker):
                    for counts in worker.once():
                        log.info("%d samples sealed, %d slots made", counts.samples, counts.slots)
                if given.json:
                    print(json.dumps(worker.counts.as_dict()))
            else:
                log.info("working on %s of %s", settings.namespace, safe_url(store.url))
                worker.run(given.interval)
    except InvalidSetting as error:  # only the client understands all of a URL
        parser.error(_sentence(error))
    except (RedisMetricsError, OSError, UnicodeError) as error:  # UnicodeError: a host that can't be a name (`a..b`)
        print(_sentence(error), file=sys.stderr)
        return 1
    finally:
        store.close()
    return 0


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _stop_by_signal(worker: Worker) -> None:
    """Let SIGTERM and SIGINT stop it, by way of a thread: the one that a signal interrupts may hold the event's lock."""
    wishes: SimpleQueue[int] = SimpleQueue()

    def wait() -> None:
        wishes.get()
        worker.stop.set()

    threading.Thread(target=wait, name="redismetrics-worker-signals", daemon=True).start()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda number, _: wishes.put(number))


def _metrics_address(text: str) -> tuple[str, int]:
    return wsgi.address(text if ":" in text else f":{text}")


@contextmanager
def _answering(worker: Worker, where: tuple[str, int] | None, interval: float) -> Iterator[None]:
    """Answer HTTP about the worker meanwhile."""
    if where is None:
        yield
        return
    with wsgi.listen(*where, page(worker, interval)) as server:
        log.info("answering on http://%s:%d/metrics", wsgi.shown(where[0]), server.server_port)
        threading.Thread(target=server.serve_forever, name="redismetrics-worker-http", daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


def page(worker: Worker, interval: float) -> wsgi.App:
    """A WSGI app: /metrics is a Prometheus page of the worker's counts, /healthz 200 while passes succeed, else 503."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            status, body = "200 OK", render(figures.of_worker(worker.counts.as_dict()))
        elif path == "/healthz":
            late = monotonic() - worker.moved_at > 3 * interval + 4 * worker.counts.pass_seconds + 10
            trouble = worker.away or ("nothing was done for long" if late else None)
            status, body = ("503 Service Unavailable", f"{trouble}\n") if trouble else ("200 OK", "ok\n")
        else:
            status, body = "404 Not Found", "Ask /metrics or /healthz.\n"
        data = body.encode("utf-8", "replace")
        kind = content_type() if path == "/metrics" else "text/plain; charset=utf-8"
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(data)))])
        return [data]

    return app


if __name__ == "__main__":
    sys.exit(main())
