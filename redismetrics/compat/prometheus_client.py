"""prometheus_client backed by Redis: the same code, with pages that cover all processes and hosts.

    from redismetrics.compat.prometheus_client import Counter, install

    install()  # with REDISMETRICS_URL=redis://...

Everything that the real package exports is available here as the same object; so are its modules,
such as `redismetrics.compat.prometheus_client.multiprocess`. Importing this module changes nothing;
`install` does, even for exporters that import `prometheus_client` themselves. For programs that
can't be edited, use `redismetrics run -- COMMAND`. See docs/prometheus-client.md.
"""

# ruff: noqa: F401
import sys

try:
    import prometheus_client as _real
except ImportError as error:
    from redismetrics.errors import MissingExtra

    raise MissingExtra(
        "redismetrics.compat.prometheus_client needs prometheus_client: "
        "pip install 'redismetrics[prometheus]'"
    ) from error

import prometheus_client.bridge.graphite
import prometheus_client.core
import prometheus_client.multiprocess
import prometheus_client.openmetrics.exposition
import prometheus_client.openmetrics.parser
import prometheus_client.parser
from prometheus_client import *  # noqa: F403
from prometheus_client import (
    asgi,
    bridge,
    context_managers,
    core,
    exposition,
    gc_collector,
    metrics,
    metrics_core,
    multiprocess,
    openmetrics,
    parser,
    platform_collector,
    process_collector,
    registry,
    samples,
    utils,
    validation,
    values,
)

from .prometheus.children import local_metrics
from .prometheus.installing import install

__all__ = (*_real.__all__, "install", "local_metrics")  # noqa: PLE0604

for _name, _module in list(sys.modules.items()):
    if _name.startswith("prometheus_client."):
        sys.modules[f"{__name__.removesuffix('prometheus_client')}{_name}"] = _module
