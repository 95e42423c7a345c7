"""`python -m redismetrics.worker`: run a worker until it is stopped."""

import argparse
import json
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from queue import SimpleQueue

from redismetrics.errors import InvalidSetting, RedisMetricsError, one_line
from redismetrics.exposition import http_server
from redismetrics.exposition.status_page import StatusSource
from redismetrics.model.safe_url import safe_url
from redismetrics.settings import Settings, resolve
from redismetrics.store import urls
from redismetrics.store.connection import Store

from .limits import DEFAULT_LIMITS, WorkerLimits
from .page import status_app
from .worker import Worker

log = logging.getLogger("redismetrics")

Watch = Callable[[Worker], AbstractContextManager[object]]


def main(
    argv: list[str] | None = None,
    *,
    prog: str = "python -m redismetrics.worker",
    epilog: str = "",
    watch: Watch = nullcontext,
    limits: WorkerLimits = DEFAULT_LIMITS,
    beside: Sequence[StatusSource] = (),
) -> int:
    """Work until SIGTERM or SIGINT, or with --once until nothing is due.

    *epilog* is added to the help. *watch* is entered around the work of --once, and may show its
    progress. *beside* are other services in this process to show on the worker's page. Returns the
    exit code: 0, or 1 if Redis is unreachable.
    """
    parser = _parser(prog, epilog, limits)
    options = _parse(parser, argv)
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr
    )
    try:
        settings, store = _open(options)
        worker = Worker(settings, store, limits=replace(limits, interval=options.interval))
        stop_by_signal(worker)
        try:
            with _serve_status(worker, options.metrics_port, beside):
                _work(worker, options, watch)
        finally:
            store.close()
    # Some parts of a URL are checked only by the Redis client.
    except InvalidSetting as error:
        parser.error(one_line(error))
    # UnicodeError: a host that cannot be a name, such as `a..b`.
    except (RedisMetricsError, OSError, UnicodeError) as error:
        print(one_line(error), file=sys.stderr)
        return 1
    return 0


def _parser(prog: str, epilog: str, limits: WorkerLimits) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Build minutes, hours and days from recorded samples, and remove expired data.",
        epilog=epilog,
    )
    parser.add_argument("--url", help="URL of Redis (default: REDISMETRICS_URL)")
    parser.add_argument(
        "--namespace", metavar="NS", help="namespace (default: REDISMETRICS_NAMESPACE)"
    )
    parser.add_argument("--once", action="store_true", help="do all work that is due, then exit")
    parser.add_argument(
        "--interval",
        type=float,
        default=limits.interval,
        metavar="S",
        help="seconds between passes (default: %(default)g)",
    )
    parser.add_argument(
        "--metrics-port",
        metavar="[HOST:]PORT",
        type=_metrics_address,
        help="serve /metrics and /healthz of the worker itself",
    )
    parser.add_argument(
        "--json", action="store_true", help="with --once: print what was done as a JSON object"
    )
    return parser


def _parse(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    options = parser.parse_args(argv)
    if options.json and not options.once:
        parser.error("--json needs --once")
    if not 0.1 <= options.interval <= 3600:
        parser.error(f"--interval must be from 0.1 to 3600 seconds, got {options.interval:g}")
    return options


def _open(options: argparse.Namespace) -> tuple[Settings, Store]:
    settings = resolve(url=options.url, namespace=options.namespace)
    if (settings.url or "").startswith("none:"):
        raise InvalidSetting("url must name a Redis server, got none://, which stores nothing")
    return settings, Store(settings.url, settings.socket_timeout)


def _work(worker: Worker, options: argparse.Namespace, watch: Watch) -> None:
    if not options.once:
        namespace, url = worker.settings.namespace, safe_url(worker.store.url)
        log.info("working on namespace %s of %s", namespace, url)
        worker.run()
        return
    with watch(worker):
        for counts in worker.once():
            log.info("%d samples sealed, %d slots built", counts.samples, counts.slots)
    if options.json:
        print(json.dumps(worker.counts.as_dict()))


def stop_by_signal(worker: Worker) -> None:
    """Make SIGTERM and SIGINT stop the worker.

    A thread sets the event, because the interrupted thread may hold the event's lock.
    """
    signals: SimpleQueue[int] = SimpleQueue()

    def wait() -> None:
        signals.get()
        worker.stop.set()

    threading.Thread(target=wait, name="redismetrics-worker-signals", daemon=True).start()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda number, _: signals.put(number))


def _metrics_address(text: str) -> tuple[str, int]:
    return http_server.parse_address(text if ":" in text else f":{text}")


@contextmanager
def _serve_status(
    worker: Worker, address: tuple[str, int] | None, beside: Sequence[StatusSource]
) -> Iterator[None]:
    """Serve the worker's own page during the block, if there is an address."""
    if address is None:
        yield
        return
    with http_server.listen(*address, status_app(worker, beside)) as server:
        log.info(
            "serving on http://%s:%d/metrics", urls.host_in_url(address[0]), server.server_port
        )
        threading.Thread(
            target=server.serve_forever, name="redismetrics-worker-http", daemon=True
        ).start()
        try:
            yield
        finally:
            server.shutdown()


if __name__ == "__main__":
    sys.exit(main())
