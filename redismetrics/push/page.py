"""The service's own HTTP page: metrics and health."""

from contextlib import AbstractContextManager
from typing import Any

from redismetrics.exposition import self_metrics, status_page
from redismetrics.model.time import monotonic

from .service import PushService

# Seconds without a complete pass until the service is unhealthy.
_SILENT = 60.0


def push_counts(service: PushService) -> dict[str, Any]:
    """Return the service's counts by target for the page; see `self_metrics.push_families`."""
    found: dict[str, dict[str, float]] = {}
    for target in service.targets:
        queue = target.queue
        for name, value in {
            "samples_sent": queue.counts.sent,
            "samples_refused": queue.counts.refused,
            "samples_dropped": queue.counts.dropped,
            "failures": queue.counts.failures,
            "waiting_bytes": queue.waiting_bytes,
            "behind_seconds": service.behind(target),
            "has_lease": target.has_lease,
        }.items():
            found.setdefault(name, {})[target.name] = float(value)
    return found


def status_of(service: PushService) -> status_page.StatusSource:
    """Return the status source of the service. A failing target does not make it unhealthy."""
    return status_page.StatusSource(
        "push",
        lambda: self_metrics.push_families(push_counts(service)),
        lambda: _problem(service),
        lambda: [
            f"{target.name}: {error}"
            for target in service.targets
            if (error := target.queue.last_error)
        ],
    )


def _problem(service: PushService) -> str:
    """Return why the service is unhealthy; empty if it is healthy."""
    if service.unreachable is not None:
        return service.unreachable
    silent = monotonic() - service.passed_at
    return f"no pass for {silent:.0f} seconds" if silent > _SILENT else ""


def serve_status(service: PushService, address: str) -> AbstractContextManager[int]:
    """Serve /metrics and /healthz at *address* during the block, like a worker.

    Raises:
        InvalidSetting: If *address* is not `[HOST:]PORT`.
    """
    return status_page.serving(status_of(service), address, "redismetrics-push-http")
