"""A request to a target."""

from typing import NamedTuple

# Maximum number of samples per request. Prometheus sends 2,000.
MAX_SAMPLES = 2_000


class PushRequest(NamedTuple):
    """A body and its number of samples; a retry sends the same body.

    Attributes:
        time_ms: The time of all its samples.
    """

    body: bytes
    samples: int
    time_ms: int
