"""Descriptions of metrics, which all feeds of a client share."""

from redismetrics.errors import FormatMismatch
from redismetrics.store import catalog
from redismetrics.store.catalog import Described, MetricDescription
from redismetrics.store.driver import Operation

from .steps import Describe


class Descriptions:
    """The descriptions of metrics that were read last, by namespace and name."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], MetricDescription] = {}

    def get(self, step: Describe) -> list[Described] | None:
        """Return the descriptions, or None if one of them is not known well enough."""
        found: list[Described] = [each for each in self._find(step) if each is not None]
        return found if len(found) == len(step.metrics) else None

    def read(self, step: Describe) -> Operation[list[Described]]:
        """Return the descriptions; read those that are not known well enough."""
        found = list(zip(step.metrics, self._find(step), strict=True))
        missing = dict.fromkeys((each.shard, each.name) for each, known in found if known is None)
        read = {}
        if missing:
            read = yield from catalog.describe_many(step.namespace, list(missing))
        for (_, name), described in read.items():
            self._keep((step.namespace, name), described)
        return [read[each.shard, each.name] if known is None else known for each, known in found]

    def _find(self, step: Describe) -> list[MetricDescription | None]:
        found = []
        for metric in step.metrics:
            known = self._known.get((step.namespace, metric.name))
            found.append(known if known is not None and metric.is_met_by(known) else None)
        return found

    def _keep(self, metric: tuple[str, str], described: Described) -> None:
        if isinstance(described, FormatMismatch):
            return
        if described.definition is None:
            # Anyone who may publish can invent names.
            self._known.pop(metric, None)
        else:
            self._known[metric] = described

    def clear(self) -> None:
        """Forget all: a server that lost its data numbers its series from 0 again."""
        self._known.clear()
