"""Descriptions of metrics, which all feeds of a client share."""

from redismetrics.errors import FormatMismatch
from redismetrics.model.time import monotonic
from redismetrics.store import catalog
from redismetrics.store.catalog import Described, MetricDescription
from redismetrics.store.driver import Operation

from .steps import Describe

# Seconds for which a description is kept after its last use, at least; at most twice as long. So
# metrics that were deleted, or are no longer recorded, are forgotten.
_KEEP = 600.0

_Key = tuple[str, str]


class Descriptions:
    """The descriptions of metrics that are in use, by namespace and name. Thread-safe."""

    def __init__(self) -> None:
        # Those used since *_began*, and those used only before.
        self._known: dict[_Key, MetricDescription] = {}
        self._older: dict[_Key, MetricDescription] = {}
        self._began = monotonic()

    def get(self, step: Describe) -> list[Described] | None:
        """Return the descriptions, or None if one of them is not known well enough."""
        found: list[Described] = [each for each in self._find(step) if each is not None]
        return found if len(found) == len(step.metrics) else None

    def read(self, step: Describe) -> Operation[list[Described]]:
        """Return the descriptions; read those that are not known well enough."""
        found = list(zip(step.metrics, self._find(step), strict=True))
        missing = dict.fromkeys((each.shard, each.name) for each, known in found if known is None)
        # What is cleared while this reads does not get what it read.
        known_now = self._known
        read = {}
        if missing:
            read = yield from catalog.describe_many(step.namespace, list(missing))
        for (_, name), described in read.items():
            if isinstance(described, FormatMismatch):
                continue
            if described.definition is None:
                # Anyone who may publish can invent names.
                known_now.pop((step.namespace, name), None)
            else:
                known_now[step.namespace, name] = described
        return [read[each.shard, each.name] if known is None else known for each, known in found]

    def _find(self, step: Describe) -> list[MetricDescription | None]:
        if monotonic() - self._began > _KEEP:
            self._older, self._known = self._known, {}
            self._began = monotonic()
        found = []
        for metric in step.metrics:
            known = self._use((step.namespace, metric.name))
            found.append(known if known is not None and metric.is_met_by(known) else None)
        return found

    def _use(self, metric: _Key) -> MetricDescription | None:
        known = self._known.get(metric)
        if known is None and (known := self._older.pop(metric, None)) is not None:
            self._known[metric] = known
        return known

    def clear(self) -> None:
        """Forget all: a server that lost its data numbers its series from 0 again."""
        self._known, self._older = {}, {}
