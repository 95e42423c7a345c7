"""Test helpers for programs that record: capture samples, assert on them, move the clock.

The names below are loaded on first use: they need numpy, and pytest loads this package in every
test run for its `pytest_plugin`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .captured import (
        Captured,
        CapturedCounter,
        CapturedGauge,
        CapturedHistogram,
        CapturedInfo,
        CapturedStateSet,
        CapturedSummary,
    )
    from .capturing import capture
    from .clock import Clock

__all__ = [
    "Captured",
    "CapturedCounter",
    "CapturedGauge",
    "CapturedHistogram",
    "CapturedInfo",
    "CapturedStateSet",
    "CapturedSummary",
    "Clock",
    "capture",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = {"capture": "capturing", "Clock": "clock"}.get(name, "captured")
    return getattr(import_module(f"{__name__}.{module}"), name)
