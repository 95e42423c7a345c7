"""What a recorder holds, so that it can go on after a capture as if nothing had happened."""

from dataclasses import dataclass

from redismetrics.model.time import Clock

from .drops import Drops
from .registry import MetricRegistry
from .sink import Sink


@dataclass(slots=True)
class RecorderState:
    """What a recorder held when it was suspended."""

    registry: MetricRegistry
    drops: Drops
    started: bool
    closed: bool
    clock: Clock
    sink: Sink
