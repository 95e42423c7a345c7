"""The service's own HTTP page: metrics and health."""

from contextlib import AbstractContextManager
from dataclasses import asdict

from redismetrics.exposition import self_metrics, status_page
from redismetrics.model.time import monotonic

from .service import ArchiveService

# Seconds without progress, beyond its interval, after which the service is unhealthy. A metric with
# 100,000 series takes a minute.
_SILENT = 600.0


def status_of(service: ArchiveService) -> status_page.StatusSource:
    """Return the metrics and health of the service."""
    return status_page.StatusSource(
        "archive",
        lambda: self_metrics.archive_families(asdict(service.counts)),
        lambda: _problem(service),
    )


def _problem(service: ArchiveService) -> str:
    """Return why the service is not healthy; empty if it is."""
    silent = monotonic() - service.progressed_at
    if service.error:
        return service.error
    is_silent = silent > service.interval + _SILENT
    return f"no progress for {silent:.0f} seconds" if is_silent else ""


def serve_status(service: ArchiveService, address: str) -> AbstractContextManager[int]:
    """Serve /metrics and /healthz at *address*, as a worker does, until the context ends.

    Raises:
        InvalidSetting: If *address* is not `[HOST:]PORT`.
    """
    return status_page.serving(status_of(service), address, "redismetrics-archive-http")
