"""A `make_asgi_app` that reads Redis in a thread, so that the event loop is not blocked."""

import functools
import sys
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import asgi
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import REGISTRY

from redismetrics.errors import StoreError
from redismetrics.export.prometheus import ASGIApp, Receive, Scope, Send, in_thread

from .pages import Pages


class _Collected:
    """The output of a registry, or its error; the real application renders the page from it."""

    def __init__(self, registry: Any) -> None:
        self._metrics: list[Metric] = []
        self._error: StoreError | None = None
        try:
            self._metrics = list(registry.collect())
        except StoreError as error:
            self._error = error

    def collect(self) -> Iterable[Metric]:
        if self._error is not None:
            raise self._error
        return self._metrics

    def restricted_registry(self, names: Iterable[str]) -> "_Restricted":
        return _Restricted(self, frozenset(names))


class _Restricted:
    """A view of only the samples with certain names."""

    def __init__(self, collected: _Collected, names: frozenset[str]) -> None:
        self._collected, self._names = collected, names

    def collect(self) -> Iterable[Metric]:
        found = (metric._restricted_metric(self._names) for metric in self._collected.collect())
        return [metric for metric in found if metric is not None]


def read_in_threads(pages: Pages) -> None:
    """Replace `make_asgi_app` wherever prometheus_client exports it."""
    real: Callable[..., ASGIApp] = asgi.make_asgi_app

    @functools.wraps(real)
    def make_asgi_app(registry: Any = REGISTRY, disable_compression: bool = False) -> ASGIApp:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            shown = registry
            if scope.get("type") == "http" and pages.shows_all(registry):
                shown = await in_thread(_Collected, registry)
            await real(shown, disable_compression)(scope, receive, send)

        return app

    for name, module in list(sys.modules.items()):
        # Also in `redismetrics.compat.prometheus_client`.
        if "prometheus_client" in name and vars(module).get("make_asgi_app") is real:
            module.make_asgi_app = make_asgi_app  # type: ignore[attr-defined]
