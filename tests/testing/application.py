"""Instruments and clients as an application has them: created before any capture."""

from redismetrics import AsyncMetrics, Counter, Gauge, Histogram, Metrics

# No server listens there.
NOWHERE = "redis://127.0.0.1:1"

refunds = Counter("refunds", {"shop": "de"})
depth = Gauge("depth")
took = Histogram("took")
explicit = Metrics(NOWHERE, namespace="explicit")
of_explicit = Counter("refunds", {"shop": "fr"}, metrics=explicit)
aexplicit = AsyncMetrics(NOWHERE, namespace="explicit")
silent = Metrics("none://")
of_silent = Counter("refunds", {"shop": "none"}, metrics=silent)
