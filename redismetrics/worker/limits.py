"""Intervals and sizes of a worker's steps."""

from dataclasses import dataclass

from redismetrics.model.time import SECOND


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """How often a worker runs, and how much it processes at once; tests use smaller values.

    Attributes:
        interval: Seconds between passes.
        patience: Number of passes that a metric with few new blocks may wait.
        backoff: Seconds until the first retry when Redis is unreachable; doubles with each retry.
        longest_backoff: Maximum seconds between retries.
        prune_interval_ms: Time between searches for dead writers.
        metrics_at_once: Metrics that share round trips.
        pending_at_once: Pieces of pending work read at once.
        attempts: Attempts at one piece of work per pass, if other workers commit first.
        few_blocks: A metric with fewer new blocks is not urgent. A commit costs some milliseconds
            even for one block; decoding blocks in a query costs about as much.
        few_change_bytes: A metric with fewer bytes of changes to fold is not urgent. record.lua
            folds at 4 MB.
        blocks_at_once: Blocks of a log read at once.
        bytes_per_commit: Bytes of blocks sealed by one commit, unless one block has more.
        rows_per_commit: Rows of blocks sealed by one commit, unless one block has more: all of them
            are in memory at once, at about 200 bytes each.
        cells_per_commit: Minutes (of a chunk) rewritten by one commit, unless one block has more.
            Blocks of the same minutes are sealed together: rewriting these costs more than samples.
        samples_per_minute: Maximum samples of a series in a minute that are kept one by one, with
            time and metadata. If there are more, only their summary and digest are kept. Metrics
            with the option `exact_samples` keep all.
        exact_bytes: Maximum bytes of exact samples of such a metric; see the setting. Beyond that,
            the limit above applies to it too.
        grace_ms: A slot is downsampled this long after its end, and again this long after late
            data arrived.
        series_per_commit: Series deleted by one script call.
        changes_at_once: Changes of a metric's totals folded by one commit.
        memory_bytes: Memory for recently written data, so that a worker need not read it again.
    """

    interval: float = 5.0
    patience: int = 4
    backoff: float = 0.5
    longest_backoff: float = 15.0
    prune_interval_ms: int = 3_600 * SECOND
    metrics_at_once: int = 32
    pending_at_once: int = 1_000
    attempts: int = 5
    few_blocks: int = 32
    few_change_bytes: int = 1 << 20
    blocks_at_once: int = 512
    bytes_per_commit: int = 8 << 20
    rows_per_commit: int = 1 << 19
    cells_per_commit: int = 256
    samples_per_minute: int = 100
    exact_bytes: int = 256 << 20
    grace_ms: int = 60 * SECOND
    series_per_commit: int = 1_000
    changes_at_once: int = 4_096
    memory_bytes: int = 32 << 20


DEFAULT_LIMITS = WorkerLimits()
