"""The worker: turns logs into minutes, hours and days, and removes expired data.

In: blocks written by record.lua. Out: rollups, written by commit.lua. Run it as
`python -m redismetrics.worker`.
"""

from .worker import Counts, Worker

__all__ = ["Counts", "Worker"]
