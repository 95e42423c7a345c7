"""The options of an event metric."""

from typing import Any

import pytest

from redismetrics import (
    InvalidMetric,
)
from redismetrics.telemetry.event_metric import EventMetric
from tests.telemetry.helpers import COMPLETED


@pytest.mark.parametrize(
    "options",
    [
        {"unit": ("ns", "bytes")},
        {"unit": ("ns", "fortnights")},
        {"unit": 3},
        {"unit": ("ns",)},
        {"tags": "tenant"},
        {"tags": {"a": "not a key"}},
        {"keep": "tenant"},
        {"measurement": 1},
        {"name": "not a name"},
    ],
    ids=repr,
)
def test_invalid_option_raises(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidMetric, match=r"must be|invalid|use a letter"):
        EventMetric(COMPLETED, "counter", **options)
