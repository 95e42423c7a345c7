"""A metric together with its keys and its place in the store."""

from dataclasses import dataclass

from redismetrics.model.retention import Resolution, RetentionPolicy

from . import keys
from .keys import SPAN, MetricKeys, RollupKeys


@dataclass(frozen=True, slots=True)
class MetricLocation:
    """Where a metric stands, and by which retention."""

    namespace: str
    shard: int
    name: str
    retention: RetentionPolicy

    @property
    def recorded(self) -> MetricKeys:
        return keys.metric(self.namespace, self.shard, self.name)

    @property
    def worked(self) -> RollupKeys:
        return keys.rollup(self.namespace, self.shard, self.name)

    def data(self, level: str, span: int) -> str:
        return keys.data(self.namespace, self.shard, self.name, level, span)

    def coarser(self, level: Resolution) -> list[tuple[str, int]]:
        """The (name, width) of each level above, the span of the coarsest at the end."""
        levels = self.retention.levels
        above = [(each.name, each.width) for each in levels if each.width > level.width]
        return [*above, (SPAN, levels[-1].span)]
