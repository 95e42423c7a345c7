"""A request to a target, before it is sent."""

from typing import NamedTuple

# Samples of a request. Prometheus sends 2,000.
MAX_SAMPLES = 2_000


class PushRequest(NamedTuple):
    """A body and how many samples it has; sent again, it is the same.

    Attributes:
        time_ms: The time of all its samples.
    """

    body: bytes
    samples: int
    time_ms: int
