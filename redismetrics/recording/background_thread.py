"""The interface of a background thread in a recording process."""

from typing import Any, Protocol


class BackgroundThread(Protocol):
    """A background thread in a recording process: an embedded worker."""

    def start(self) -> None:
        """Start the thread, unless it is running or not needed.

        Raises:
            RuntimeError: If no thread can be started.
        """

    def stop(self) -> None:
        """Ask the thread to stop."""

    def join(self, timeout: float) -> None:
        """Wait until the thread has stopped."""

    def reset(self) -> None:
        """Forget the thread, in the child of a fork."""

    def counts(self) -> dict[str, Any] | None:
        """Return the counts of its work; None before it has started."""
