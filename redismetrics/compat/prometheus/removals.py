"""Removing children: their series are removed from Redis, for all processes.

A process that still holds such a child, and counts with it, begins the series again.
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
    """Remove the series of a metric that have these labels.

    It waits until they are removed, since what is counted afterwards must not be. If Redis does not
    answer, or has not answered before, they stay, and that is logged.
    """
    from redismetrics.worker.cleanup import delete_series

    internals = children.client.internals
    if not isinstance(internals.destination, tuple):
        return
    away = children.client.stats()["last_error"]
    if away is not None:
        log.warning("series of %s stay in Redis: %s", metric._name, away)
        return
    tags = names.stored_tags(labels, map(str, labels.values()))
    try:
        # What was counted before the removal must not come after it.
        internals.settle(WAIT)
        for name in children.stored_names(metric):
            internals.run(delete_series(internals.query_context.namespace, name, tags))
    except RedisMetricsError as error:
        log.warning("series of %s stay in Redis: %s", metric._name, one_line(error))
