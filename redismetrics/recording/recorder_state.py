"""The state of a recorder, so that it can continue after a capture as if nothing had happened."""

from dataclasses import dataclass

from redismetrics.model.time import Clock

from .drops import Drops
from .registry import MetricRegistry
from .sink import Sink


@dataclass(slots=True)
class RecorderState:
    """The state of a recorder at the time it was suspended."""

    registry: MetricRegistry
    drops: Drops
    started: bool
    closed: bool
    clock: Clock
    sink: Sink
