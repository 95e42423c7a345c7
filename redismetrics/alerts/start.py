"""Start the service for a client."""

import os
import threading
from collections.abc import Iterable
from typing import Any

from redismetrics.errors import InvalidSetting, shown
from redismetrics.store.connection import Store

from .options import AlertOptions
from .service import AlertService
from .store_engine import StoreEngine


def alert_options(rules: object) -> AlertOptions:
    """Return the options for a client's argument *rules*.

    Raises:
        InvalidSetting: If it is neither options, nor a file pattern, nor several patterns.
    """
    if isinstance(rules, AlertOptions):
        return rules
    if isinstance(rules, str):
        return AlertOptions((rules,))
    if isinstance(rules, Iterable):
        patterns = tuple(map(str, rules))
        if patterns:
            return AlertOptions(patterns)
    raise InvalidSetting(
        f"rules must be a file pattern, a list of them, or AlertOptions, got {shown(rules)}"
    )


def make_service(metrics: Any, options: AlertOptions) -> AlertService:
    """Return a service that evaluates and records with the client *metrics*.

    Raises:
        InvalidSetting: If a file is not valid, or the client stores nothing.
        MissingExtra: If a package of the extra `alerts` is not installed.
    """
    settings = metrics.settings
    if not metrics.internals.has_store:
        raise InvalidSetting("rules need a server, and none:// stores nothing; leave them out")
    store = Store(settings.url, settings.socket_timeout)
    return AlertService(settings.namespace, store, options, lambda: store_engine(metrics))


def store_engine(metrics: Any) -> StoreEngine:
    """Return an engine that evaluates and records with the client *metrics*."""
    internals = metrics.internals
    return StoreEngine(
        internals.query_context,
        metrics,
        internals.run,
        internals.settle,
        internals.mismatches,
        internals.declare_default,
        idle_ms=round(1000 * metrics.settings.series_idle),
    )


class AlertThread:
    """A service in its own thread."""

    def __init__(self, service: AlertService) -> None:
        self.service = service
        self._pid = os.getpid()
        self._thread = threading.Thread(target=service.run, name="redismetrics-alerts", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stop the service, and wait at most *timeout* seconds until it has released its leases."""
        # A forked child lacks the thread, and the event's lock may remain locked there.
        if self._pid == os.getpid():
            self.service.stop.set()
            self._thread.join(timeout)
