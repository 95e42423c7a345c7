"""Removing children: their series are removed from Redis, for all processes.

If a process still holds such a child and uses it, the series starts again.
"""

import logging
from collections.abc import Mapping
from typing import Any

from prometheus_client.metrics import MetricWrapperBase

from redismetrics.errors import RedisMetricsError, one_line

from . import names
from .children import Children

log = logging.getLogger("redismetrics")

# Seconds that a removal waits for Redis.
WAIT = 1.0


def remove_series(children: Children, metric: MetricWrapperBase, labels: Mapping[str, Any]) -> None:
    """Remove the series of a metric with these labels.

    Waits until they are removed, because later counts must be kept. If Redis does not answer, or
    was not answering before, the series stay, and this is logged.
    """
    from redismetrics.worker.cleanup import delete_series

    internals = children.client.internals
    if not isinstance(internals.destination, tuple):
        return
    away = children.client.stats()["last_error"]
    if away is not None:
        log.warning("series of %s could not be deleted: %s", metric._name, away)
        return
    tags = names.stored_tags(labels, map(str, labels.values()))
    try:
        # Counts made before the removal must not arrive after it.
        internals.settle(WAIT)
        for name in children.stored_names(metric):
            internals.run(delete_series(internals.query_context.namespace, name, tags))
    except RedisMetricsError as error:
        log.warning("series of %s could not be deleted: %s", metric._name, one_line(error))
