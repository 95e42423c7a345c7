"""The Prometheus page of a client, as its parser reads it."""

import math
from collections.abc import Sequence

import pytest

from redismetrics import Metrics
from redismetrics.export import export
from tests.fixtures.exposition import (
    samples,
)

UNITLESS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100),
    *(250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000),
)


Page = dict[tuple[str, frozenset[tuple[str, str]]], float]


both_formats = pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])


def page(metrics: Metrics, *, openmetrics: bool = False) -> Page:
    """Return every sample of the page by name and labels, as its parser reads them."""
    return samples(export(metrics=metrics, openmetrics=openmetrics), openmetrics)


def at(name: str, /, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def histogram_of(
    name: str, values: Sequence[float], bounds: Sequence[float], /, **labels: str
) -> Page:
    """Return what a page must show of *values*, counted one by one."""
    shown: Page = {
        at(f"{name}_bucket", le=le(bound), **labels): sum(value <= bound for value in values)
        for bound in (*bounds, math.inf)
    }
    shown[at(f"{name}_sum", **labels)] = math.fsum(values)
    shown[at(f"{name}_count", **labels)] = len(values)
    return shown


def le(bound: float) -> str:
    """Return a bound as OpenMetrics writes it, as far as these tests need."""
    return {math.inf: "+Inf"}.get(bound, repr(float(bound)))
