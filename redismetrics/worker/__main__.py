"""`python -m redismetrics.worker`: run a worker until it is stopped."""

import argparse
import json
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from queue import SimpleQueue

from redismetrics.errors import InvalidSetting, RedisMetricsError
from redismetrics.exposition import http_server
from redismetrics.settings import resolve
from redismetrics.store import urls
from redismetrics.store.connection import Store
from redismetrics.store.urls import safe_url

from .page import status_app
from .worker import INTERVAL, Worker

log = logging.getLogger("redismetrics")


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
    parser.add_argument(
        "--namespace",
        metavar="NS",
        help="which share of the store (default: REDISMETRICS_NAMESPACE)",
    )
    parser.add_argument("--once", action="store_true", help="do all that is due, and leave")
    parser.add_argument(
        "--interval",
        type=float,
        default=INTERVAL,
        metavar="S",
        help="seconds between passes (default: %(default)g)",
    )
    parser.add_argument(
        "--metrics-port",
        metavar="[HOST:]PORT",
        type=_metrics_address,
        help="answer /metrics and /healthz about the worker itself",
    )
    parser.add_argument(
        "--json", action="store_true", help="with --once: what was done as one JSON object"
    )
    given = parser.parse_args(argv)
    if given.json and not given.once:
        parser.error("--json: wanted beside --once")
    if not 0.1 <= given.interval <= 3600:
        parser.error(f"--interval: wanted 0.1 to 3600 seconds, got {given.interval:g}")
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr
    )
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
    except (
        RedisMetricsError,
        OSError,
        UnicodeError,
    ) as error:  # UnicodeError: a host that can't be a name (`a..b`)
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
    return http_server.parse_address(text if ":" in text else f":{text}")


@contextmanager
def _answering(worker: Worker, where: tuple[str, int] | None, interval: float) -> Iterator[None]:
    """Answer HTTP about the worker meanwhile."""
    if where is None:
        yield
        return
    with http_server.listen(*where, status_app(worker, interval)) as server:
        log.info(
            "answering on http://%s:%d/metrics", urls.host_in_url(where[0]), server.server_port
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
