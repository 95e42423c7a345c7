"""Infos and enums: the newest value set in any process applies to all."""

import logging
from collections.abc import Mapping
from typing import Any

from prometheus_client.metrics import Enum, Info

from redismetrics.errors import InvalidMetric
from redismetrics.model.validation import MetricType
from redismetrics.recording.instruments import InfoInstrument, StateSetInstrument

from . import names
from .children import Children

log = logging.getLogger("redismetrics")


class LabelSets:
    """Records the values set by `Info.info` and `Enum.state`."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._has_failed = False

    def set_info(self, metric: Info, labels: Mapping[str, Any]) -> None:
        """Record the labels of an info."""
        stored = names.stored_tags(labels, map(str, labels.values()))
        name, tags = self._declare(metric)
        self._try(lambda: InfoInstrument(name, tags, metrics=self._children.client).set(stored))

    def set_state(self, metric: Enum, state: str) -> None:
        """Record the state of an enum."""
        name, tags = self._declare(metric)
        self._try(lambda: StateSetInstrument(name, tags, metrics=self._children.client).set(state))

    def _declare(self, metric: Info | Enum) -> tuple[str, dict[str, str]]:
        kind: MetricType = "info" if isinstance(metric, Info) else "stateset"
        name = self._children.declare(kind, metric._name, metric._documentation, metric=metric)
        return name, names.stored_tags(metric._labelnames, metric._labelvalues)

    def _try(self, record: Any) -> None:
        """Record; log the first value that can't be stored, such as a state without a name."""
        try:
            record()
        except InvalidMetric as error:
            if not self._has_failed:
                self._has_failed = True
                log.warning("not recorded: %s", error)
