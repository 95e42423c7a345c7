"""`python -m redismetrics.export`: print the Prometheus page, or serve it."""

import argparse
import signal
import sys
import threading
from typing import TYPE_CHECKING

from redismetrics.errors import RedisMetricsError, one_line
from redismetrics.exposition import http_server
from redismetrics.store import urls

from .prometheus import export, wsgi_app

if TYPE_CHECKING:
    from redismetrics.client.metrics import Metrics


def main(argv: list[str] | None = None, *, prog: str = "python -m redismetrics.export") -> int:
    """Print the page, or serve it. Returns 0, or 1 when the store can't be asked; exits with 2 on wrong arguments."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Print or serve metrics as a Prometheus page."
    )
    parser.add_argument("--metric", metavar="NAME", help="only this metric")
    parser.add_argument(
        "--openmetrics",
        action="store_true",
        help="OpenMetrics 1.0.0 instead of Prometheus text 0.0.4",
    )
    parser.add_argument("--url", help="where the store is (default: REDISMETRICS_URL)")
    parser.add_argument(
        "--namespace",
        metavar="NS",
        help="which share of the store (default: REDISMETRICS_NAMESPACE)",
    )
    parser.add_argument(
        "--serve",
        metavar="HOST:PORT",
        type=http_server.address,
        help="answer HTTP until stopped; :9464 alone means localhost",
    )
    given = parser.parse_args(argv)
    if given.serve and (given.metric is not None or given.openmetrics):
        parser.error(
            "--serve answers for all metrics, in the format asked for: leave out --metric and --openmetrics"
        )
    from redismetrics.client.metrics import Metrics

    try:
        metrics = Metrics(url=given.url, namespace=given.namespace)
        try:
            if given.serve:
                return _serve(metrics, *given.serve)
            page = export(
                given.metric, metrics=metrics, openmetrics=given.openmetrics, self_metrics=True
            )
        finally:
            metrics.close()
    except RedisMetricsError as error:
        if isinstance(error, ValueError):  # a setting or a name that can't be
            parser.error(one_line(error))
        print(one_line(error), file=sys.stderr)
        return 1
    # Bytes: the format is UTF-8 and \n whatever the terminal's encoding and the system's line ends are.
    sys.stdout.buffer.write(page.encode())
    sys.stdout.flush()
    return 0


def _serve(metrics: "Metrics", host: str, port: int) -> int:
    """Answer HTTP until SIGINT or SIGTERM; port 0 takes a free one. The address goes to stderr once it listens."""
    # Only the main thread may set handlers, and in any other no signal arrives.
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
    except (OSError, UnicodeError) as error:  # UnicodeError: a host that can't be a name (`a..b`)
        print(f"can't serve on {host}:{port}: {one_line(error)}", file=sys.stderr)
        return 1
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
