"""The service's own HTTP page: metrics and health."""

from contextlib import AbstractContextManager
from time import monotonic
from typing import Any

from redismetrics.exposition import self_metrics, status_page

from .service import AlertService

# Seconds without a complete pass until the service is unhealthy.
_SILENT = 60.0


def rule_counts(service: AlertService) -> dict[str, Any]:
    """Return the service's counts for the page; see `self_metrics.rule_families`."""
    counts = service.runner.counts
    boxes = service.outboxes()
    return {
        "evaluations": counts.evaluations,
        "failures": counts.failures,
        "missed": counts.missed,
        "evaluation_seconds": counts.seconds,
        "notifications": {name: box.sent for name, box in boxes.items()},
        "notification_failures": {name: box.failed for name, box in boxes.items()},
        "notifications_dropped": {name: box.dropped for name, box in boxes.items()},
        "files_valid": not service.status.bad_files,
    }


def _problem(service: AlertService) -> str:
    status = service.status
    silent = monotonic() - status.passed_at
    for what, error in list(status.errors.items()):
        return f"{what}: {error}"
    return f"no evaluation for {silent:.0f} seconds" if silent > _SILENT else ""


def status_of(service: AlertService) -> status_page.StatusSource:
    """Return the status source of the service. Bad files and receivers do not make it unhealthy."""
    return status_page.StatusSource(
        "alerts",
        lambda: self_metrics.rule_families(rule_counts(service)),
        lambda: _problem(service),
        service.problems,
    )


def serve_status(service: AlertService, address: str) -> AbstractContextManager[int]:
    """Serve /metrics and /healthz at *address* during the block, like a worker.

    Raises:
        InvalidSetting: If *address* is not `[HOST:]PORT`.
    """
    return status_page.serving(status_of(service), address, "redismetrics-alerts-http")
