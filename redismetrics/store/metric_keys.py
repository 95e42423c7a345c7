"""A metric's place in Redis: its namespace, shard and keys."""

from dataclasses import dataclass, replace

from redismetrics.model.definition import Definition
from redismetrics.model.retention import RetentionPolicy

from . import keys
from .keys import MetricKeys, RollupKeys


@dataclass(frozen=True, slots=True)
class MetricLocation:
    """Where a metric is stored, and the retention policy: of its namespace, or of the metric."""

    namespace: str
    shard: int
    name: str
    retention: RetentionPolicy

    def of(self, definition: Definition | None) -> "MetricLocation":
        """Return the location with the retention policy of a metric with this definition."""
        if definition is None or not definition.rest:
            return self
        return replace(self, retention=self.retention.of_metric(definition.options))

    @property
    def recorded(self) -> MetricKeys:
        """The keys that recording writes."""
        return keys.metric(self.namespace, self.shard, self.name)

    @property
    def worked(self) -> RollupKeys:
        """The keys that only workers write."""
        return keys.rollup(self.namespace, self.shard, self.name)

    @property
    def exemplars(self) -> str:
        return keys.exemplars(self.namespace, self.shard, self.name)

    def data(self, resolution: str, partition_ms: int) -> str:
        """Return the key of the partition of *resolution* that starts at *partition_ms*."""
        return keys.data(self.namespace, self.shard, self.name, resolution, partition_ms)
