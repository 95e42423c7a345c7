"""Bounds on what one evaluation may cost."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from redismetrics.errors import EvaluationFailed, EvaluationTimeout

# Prometheus' defaults: query.max-samples and query.timeout.
MAX_SAMPLES = 50_000_000
TIMEOUT = 120.0


@dataclass(slots=True)
class Budget:
    """What an evaluation, and the source that answers it, may still use.

    Attributes:
        deadline: Time of *clock* in seconds at which the evaluation must stop.
        max_samples: Samples that may be read, and cells (series x steps) that may be held.
        max_series: Series that one selector may return, or one operator may create.
        timeout: The length in seconds behind *deadline*, for the message.
        clock: Returns seconds; monotonic.
        samples: Samples read until now.
        held: Cells of results that later operations still need.
    """

    deadline: float
    max_samples: int = MAX_SAMPLES
    max_series: int = 200_000
    timeout: float = TIMEOUT
    clock: Callable[[], float] = time.monotonic
    samples: int = 0
    held: int = 0

    @classmethod
    def of(
        cls,
        timeout: float = TIMEOUT,
        *,
        max_samples: int = MAX_SAMPLES,
        max_series: int = 200_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> "Budget":
        """Return a budget that begins now."""
        return cls(clock() + timeout, max_samples, max_series, timeout, clock)

    def check(self) -> None:
        """Raise `EvaluationTimeout` past the deadline. Call it at least every 100 ms of work."""
        if self.clock() > self.deadline:
            raise EvaluationTimeout(
                f"query timed out in expression evaluation: it must end within {self.timeout:g} s; "
                "use a shorter range, a longer step or fewer series"
            )

    def read(self, samples: int) -> None:
        """Count *samples* that were read for this evaluation.

        Raises:
            EvaluationFailed: If there are more than *max_samples* in total.
            EvaluationTimeout: Past the deadline.
        """
        self.samples += samples
        self._limit(self.samples)
        self.check()

    def hold(self, cells: int) -> None:
        """Check that an array of *cells* may be made beside those that are held.

        Raises:
            EvaluationFailed: If there are more than *max_samples*.
        """
        self._limit(self.held + cells)

    def _limit(self, count: int) -> None:
        if count > self.max_samples:
            raise EvaluationFailed(
                "query processing would load too many samples into memory in query execution: "
                f"there must be at most {self.max_samples} at a time, got {count}; use a shorter "
                "range, a longer step or fewer series"
            )

    def series(self, count: int) -> None:
        """Check that *count* series may be selected or made.

        Raises:
            EvaluationFailed: If there are more than *max_series*.
        """
        if count > self.max_series:
            raise EvaluationFailed(
                f"an expression must have at most {self.max_series} series at a time, got {count}; "
                "use more matchers or aggregate first"
            )
