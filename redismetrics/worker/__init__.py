"""What happens at rest: the log becomes minutes, hours and days, and what has expired is removed.

In: blocks that `record.lua` wrote. Out: rollups, written by `commit.lua`. Also `python -m redismetrics.worker`.
"""

from .worker import Counts, Worker

__all__ = ["Counts", "Worker"]
