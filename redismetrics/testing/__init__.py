"""For tests of programs that record: capture samples in memory, assert on them, and move the clock."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .captured import Captured, CapturedCounter, CapturedGauge, CapturedHistogram
    from .capturing import capture
    from .clock import Clock

__all__ = ["Captured", "CapturedCounter", "CapturedGauge", "CapturedHistogram", "Clock", "capture"]


def __getattr__(name: str) -> Any:
    """Load numpy and redis at first use: the pytest plugin lives in this package, and every test run imports it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import captured, clock

    if name == "capture":
        from .capturing import capture

        return capture
    return getattr(clock if name == "Clock" else captured, name)
