"""Installation: stores the metrics of prometheus_client in this process in Redis."""

import logging

from redismetrics.client import default
from redismetrics.client.metrics import Metrics
from redismetrics.errors import InvalidSetting, StoreError, one_line

from .callbacks import Callbacks
from .children import Children
from .endings import watch_endings
from .existing import take_over_metrics
from .pages import Pages
from .seams import open_seams

log = logging.getLogger("redismetrics")

_installed: Children | None = None


def install(url: str | None = None, namespace: str | None = None) -> None:
    """Keep the metrics of prometheus_client in Redis, so that they cover all processes.

    Call it at startup, before metrics are created: in the module that creates the application, or
    in gunicorn's configuration file. Existing metrics are taken over with their counts so far. It
    opens one connection, to report early if Redis does not answer; counts made in the meantime are
    stored later. A second call has no effect.

    Args:
        url: The server; by default that of the default client (see `configure`).
        namespace: The namespace; use one per service, because a page shows all metrics in it.

    Raises:
        InvalidSetting: If there is no URL, a setting is invalid, or it is already installed with
            other settings.
    """
    global _installed
    if url is None and namespace is None:
        client = default.client()
    else:
        client = Metrics(url, namespace=namespace)
    settings = client.settings
    if _installed is not None:
        known = _installed.client.settings
        if (known.url, known.namespace) != (settings.url, settings.namespace):
            raise InvalidSetting(
                "install() must have the url and the namespace of the first call: "
                f"{_installed.client!r}, got {client!r}"
            )
        return
    if settings.url is None:
        raise InvalidSetting(
            "install() needs a server: set REDISMETRICS_URL, such as redis://localhost:6379/0, "
            "or pass url"
        )
    children, callbacks = Children(client), Callbacks()
    open_seams(children, Pages(children, callbacks), callbacks)
    client.internals.add_sampler(callbacks.sample)
    _installed = children
    take_over_metrics(children, callbacks)
    watch_endings()
    _warn_if_unreachable(client)


def _warn_if_unreachable(client: Metrics) -> None:
    if not client.internals.has_store:
        return
    try:
        client.internals.check_store()
    except StoreError as error:
        log.warning(
            "prometheus_client counts in memory until Redis answers, and its pages fail: %s",
            one_line(error),
        )
