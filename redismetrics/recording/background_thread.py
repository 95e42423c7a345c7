"""The interface of a thread that runs beside recording."""

from typing import Any, Protocol


class BackgroundThread(Protocol):
    """A thread that runs beside recording: the worker inside a recording process."""

    def start(self) -> None:
        """Start it unless it runs, or isn't needed.

        Raises:
            RuntimeError: If no thread can be started.
        """

    def stop(self) -> None:
        """Let it end soon."""

    def join(self, timeout: float) -> None:
        """Wait until it has ended."""

    def reset(self) -> None:
        """Forget it, in the child of a fork."""

    def counts(self) -> dict[str, Any] | None:
        """Return what it has done; None before it started."""
