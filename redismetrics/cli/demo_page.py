"""The demo of the web page: `redismetrics demo --web` records, serves the page and opens it."""

import contextlib
import math
import sys
from collections.abc import Iterator

from redismetrics.errors import MissingExtra
from redismetrics.model.time import system_clock

from .demo_alert import evaluate
from .demo_run import Demo
from .demo_traffic import RULES, Traffic
from .services import tell

# Recorded before the page is opened: the hour that it shows, and the previous one to compare with.
_HISTORY_SECONDS = 7300
# Alerts are evaluated over this time before now, once a minute.
_ALERT_SECONDS = 3000
_MINUTE_MS = 60_000


def show_page() -> None:
    """Record and serve the page on a free port of localhost until a signal arrives.

    Raises:
        MissingExtra: If the extra `server` is not installed.
    """
    from redismetrics.api.app import create_app
    from redismetrics.api.server import serve

    print("Recording two hours of history in a temporary server ...", file=sys.stderr)
    traffic = Traffic(system_clock())
    with Demo(math.inf, traffic) as demo:
        traffic.record_history(demo.metrics, _HISTORY_SECONDS)
        demo.start()
        with _alerts(demo, traffic):
            app = create_app(demo.metrics, allow_write=True, localhost_only=True)
            serve(app, "127.0.0.1", 0, ready=lambda at: tell(at, open_page=True))


@contextlib.contextmanager
def _alerts(demo: Demo, traffic: Traffic) -> Iterator[None]:
    """Evaluate the demo's rules over the last hour, then live. Without the extra, do nothing."""
    now_ms = round(1000 * traffic.now)
    minutes = range(now_ms - 1000 * _ALERT_SECONDS, now_ms, _MINUTE_MS)
    try:
        evaluate(demo.metrics, RULES, minutes)
        from redismetrics.alerts.start import AlertThread, alert_options, make_service

        file = demo.folder / "demo.yml"
        file.write_text(RULES, encoding="utf-8")
        thread = AlertThread(make_service(demo.metrics, alert_options(str(file))))
    except MissingExtra as error:
        print(f"No alerts: {error}", file=sys.stderr)
        yield
        return
    try:
        yield
    finally:
        thread.stop(5.0)
