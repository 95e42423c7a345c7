"""What methods that run operations need from a client."""

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from redismetrics.queries.context import QueryContext
    from redismetrics.store.driver import Operation

T = TypeVar("T")


class OperationMethods:
    """What the methods of both clients need, provided by `Client`."""

    @property
    def _context(self) -> "QueryContext":
        raise NotImplementedError

    @property
    def _now_ms(self) -> int:
        raise NotImplementedError


class SyncMethods(OperationMethods):
    """What blocking methods need, provided by `Metrics`."""

    def _ask(self, operation: "Operation[T]") -> T:
        """Send what was recorded and not sent yet, then run *operation*."""
        raise NotImplementedError


class AsyncMethods(OperationMethods):
    """What awaitable methods need, provided by `AsyncMetrics`."""

    async def _ask(self, operation: "Operation[T]") -> T:
        """Send what was recorded and not sent yet, then run *operation*."""
        raise NotImplementedError
