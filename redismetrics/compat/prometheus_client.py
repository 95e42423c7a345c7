"""prometheus_client over Redis: the same code, and pages of all processes and hosts.

    from redismetrics.compat.prometheus_client import Counter, install

    install()  # with REDISMETRICS_URL=redis://...

All that the real package exports is here too, and is the same object; so are its modules, such as
`redismetrics.compat.prometheus_client.multiprocess`. Importing this module changes nothing;
`install` does, also for exporters that import `prometheus_client` themselves. In programs that
can't be edited, `redismetrics run -- COMMAND` installs. See docs/prometheus-client.md.
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
