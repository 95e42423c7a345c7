"""The worker's own HTTP page: metrics and health."""

from collections.abc import Sequence

from redismetrics.exposition import http_server, self_metrics, status_page
from redismetrics.model.time import monotonic

from .worker import Worker


def status_app(worker: Worker, beside: Sequence[status_page.StatusSource] = ()) -> http_server.App:
    """Return a WSGI app with /metrics and /healthz; see `status_page.status_app`.

    The worker is healthy while passes succeed, whatever services run *beside* it.
    """
    source = status_page.StatusSource(
        "worker",
        lambda: self_metrics.worker_families(worker.counts.as_dict()),
        lambda: _problem(worker),
    )
    return status_page.status_app(source, beside)


def _problem(worker: Worker) -> str | None:
    """Return why the worker is unhealthy, or None."""
    longest = 3 * worker.limits.interval + 4 * worker.counts.pass_seconds + 10
    silent = monotonic() - worker.progressed_at
    return worker.unreachable or (
        f"no progress for {silent:.0f} seconds" if silent > longest else None
    )
