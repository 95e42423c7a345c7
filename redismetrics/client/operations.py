"""What the methods of both clients that run operations need of a client."""

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from redismetrics.queries.context import QueryContext
    from redismetrics.store.driver import Operation

T = TypeVar("T")


class OperationMethods:
    """What the methods of both clients need. `Client` has it."""

    @property
    def _context(self) -> "QueryContext":
        raise NotImplementedError

    @property
    def _now_ms(self) -> int:
        raise NotImplementedError


class SyncMethods(OperationMethods):
    """What the methods that block need. `Metrics` has it."""

    def _ask(self, operation: "Operation[T]") -> T:
        """Send what was recorded and not sent yet, then run *operation*."""
        raise NotImplementedError


class AsyncMethods(OperationMethods):
    """What the methods that are awaited need. `AsyncMetrics` has it."""

    async def _ask(self, operation: "Operation[T]") -> T:
        """Send what was recorded and not sent yet, then run *operation*."""
        raise NotImplementedError
