"""Turn results into values that JSON can hold."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from redismetrics.model.sample import Gap, Sample, Summary
from redismetrics.model.time import to_datetime, to_ms
from redismetrics.model.windows import Window


def to_json_ready(value: Any) -> Any:
    """*value* with datetimes as ISO text, samples, gaps and summaries as dicts, tuples as lists, None for what is not finite."""
    if isinstance(value, Sample | Gap | Summary):
        return value.to_dict()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): to_json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_ready(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None  # a sum beyond what a float holds; JSON has no word for it
    return value


def describe_window(window: Window) -> Any:
    """A window as text or list of texts."""
    if window is None or isinstance(window, str):
        return window
    if isinstance(window, tuple):
        return [None if edge is None else to_datetime(to_ms(edge)).isoformat() for edge in window]
    return str(window)
