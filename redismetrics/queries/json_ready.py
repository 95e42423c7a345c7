"""Convert results to values that JSON can represent."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from redismetrics.model.exemplar import Exemplar
from redismetrics.model.sample import Gap, Sample, Summary
from redismetrics.model.time import to_datetime, to_ms
from redismetrics.model.windows import Window


def to_json_ready(value: Any) -> Any:
    """Return *value* with all types that JSON lacks replaced.

    Datetimes become ISO text; samples, gaps, summaries and exemplars become dicts; tuples become
    lists; keys become text; and non-finite numbers (a sum too large for a float) become None.
    """
    if isinstance(value, Sample | Gap | Summary | Exemplar):
        value = value.to_dict()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): to_json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_ready(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def describe_window(window: Window) -> Any:
    """Return a window as text, or as a list of two ISO texts (None for an open edge)."""
    if window is None or isinstance(window, str):
        return window
    if isinstance(window, tuple):
        return [None if edge is None else to_datetime(to_ms(edge)).isoformat() for edge in window]
    return str(window)
