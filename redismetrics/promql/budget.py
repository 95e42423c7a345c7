"""Limits on the cost of one evaluation."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from redismetrics.errors import EvaluationFailed, EvaluationTimeout

# Prometheus' defaults: query.max-samples and query.timeout.
MAX_SAMPLES = 50_000_000
TIMEOUT = 120.0


@dataclass(slots=True)
class Budget:
    """The remaining budget of an evaluation and its source.

    Attributes:
        deadline: Time of *clock* in seconds at which the evaluation must stop.
        max_samples: Maximum number of samples read, and of cells (series x steps) held.
        max_series: Maximum number of series returned by a selector, or created by an operator.
        timeout: The timeout in seconds that *deadline* is based on, for the message.
        clock: Returns seconds; monotonic.
        samples: Samples read so far.
        held: Cells of results still needed by later operations.
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
        """Return a budget that starts now."""
        return cls(clock() + timeout, max_samples, max_series, timeout, clock)

    def check(self) -> None:
        """Raise `EvaluationTimeout` past the deadline. Call it at least every 100 ms of work."""
        if self.clock() > self.deadline:
            raise EvaluationTimeout(
                f"query timed out in expression evaluation: it must end within {self.timeout:g} s; "
                "use a shorter range, a longer step or fewer series"
            )

    def read(self, samples: int) -> None:
        """Count *samples* read for this evaluation.

        Raises:
            EvaluationFailed: If there are more than *max_samples* in total.
            EvaluationTimeout: Past the deadline.
        """
        self.samples += samples
        self._limit(self.samples)
        self.check()

    def hold(self, cells: int) -> None:
        """Check that an array of *cells* may be created in addition to those held.

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
        """Check that *count* series may be selected or created.

        Raises:
            EvaluationFailed: If there are more than *max_series*.
        """
        if count > self.max_series:
            raise EvaluationFailed(
                f"an expression must have at most {self.max_series} series at a time, got {count}; "
                "use more matchers or aggregate first"
            )
