"""`python -m redismetrics.export`: print the Prometheus page, or serve it."""

import argparse
import signal
import sys
import threading
from typing import TYPE_CHECKING

from redismetrics.errors import RedisMetricsError, no_such_metric, one_line
from redismetrics.exposition import http_server
from redismetrics.store import urls

from .prometheus import export, wsgi_app

if TYPE_CHECKING:
    from redismetrics.client.metrics import Metrics

_EMPTY_PAGES = ("", "# EOF\n")


def main(argv: list[str] | None = None, *, prog: str = "python -m redismetrics.export") -> int:
    """Print the page, or serve it.

    Returns 0, or 1 if Redis does not answer or there is no such metric. Exits with 2 if the
    arguments are wrong.
    """
    parser = _parser(prog)
    options = parser.parse_args(argv)
    if options.serve and (options.metric is not None or options.openmetrics):
        parser.error(
            "--serve serves all metrics, in the format that each request accepts: "
            "leave out --metric and --openmetrics"
        )
    from redismetrics.client.metrics import Metrics

    try:
        metrics = Metrics(url=options.url, namespace=options.namespace)
        try:
            if options.serve:
                return _serve(metrics, *options.serve)
            page = export(
                options.metric, metrics=metrics, openmetrics=options.openmetrics, self_metrics=True
            )
            # A metric without series still has its type on the page.
            if options.metric is not None and page in _EMPTY_PAGES:
                raise no_such_metric(options.metric, metrics.settings.namespace)
        finally:
            metrics.close()
    except RedisMetricsError as error:
        # An invalid setting or name.
        if isinstance(error, ValueError):
            parser.error(one_line(error))
        print(one_line(error), file=sys.stderr)
        return 1
    # How Python represents a stream that was closed when the process started.
    if sys.stdout is None:
        print("standard output is closed", file=sys.stderr)
        return 1
    # As bytes: the format is UTF-8 with \n, whatever the encoding of the terminal is.
    sys.stdout.buffer.write(page.encode())
    sys.stdout.flush()
    return 0


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description="Print or serve all metrics as a Prometheus page."
    )
    parser.add_argument("--metric", metavar="NAME", help="only this metric")
    parser.add_argument(
        "--openmetrics",
        action="store_true",
        help="OpenMetrics 1.0.0 instead of Prometheus text 0.0.4",
    )
    parser.add_argument("--url", help="the URL of Redis (default: REDISMETRICS_URL)")
    parser.add_argument(
        "--namespace", metavar="NS", help="the namespace (default: REDISMETRICS_NAMESPACE)"
    )
    parser.add_argument(
        "--serve",
        metavar="HOST:PORT",
        type=http_server.parse_address,
        help="serve the page over HTTP until stopped; :9464 means port 9464 of localhost",
    )
    return parser


def _serve(metrics: "Metrics", host: str, port: int) -> int:
    """Serve the page until SIGINT or SIGTERM; port 0 picks a free one.

    The address is printed to stderr once the server is listening.
    """
    # Only the main thread may set signal handlers.
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler) if in_main else None
    try:
        with http_server.listen(host, port, wsgi_app(metrics)) as server:
            print(
                f"serving on http://{urls.host_in_url(host)}:{server.server_port}/metrics",
                file=sys.stderr,
                flush=True,
            )
            server.serve_forever()
    except KeyboardInterrupt:
        pass
    except OSError as error:
        print(one_line(error), file=sys.stderr)
        return 1
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
