"""The values of one training run, recorded by the callbacks of training libraries."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from redismetrics.errors import MissingExtra
from redismetrics.model.definition import Definition, define
from redismetrics.model.validation import MAX_NAME, Tags
from redismetrics.recording.methods import Recording

from .safe_recorder import SafeRecorder

# How long the samples of runs are kept, in seconds, and the maximum number of values of the tag
# `run`.
RETENTION = 30 * 86_400
MAX_RUNS = 100_000

_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9_./:-]")


class RunValues:
    """Records the values of one run as gauges that keep every sample.

    Args:
        run: Name of the run, stored as the tag `run`.
        tags: Additional tags.
        prefix: Prefix of the metric names.
        metrics: The client; None means the default client.
        retention: How long the samples are kept, in seconds.
    """

    def __init__(
        self,
        run: str,
        *,
        tags: Tags | None = None,
        prefix: str = "",
        metrics: Recording | None = None,
        retention: float = RETENTION,
    ) -> None:
        self._safe = SafeRecorder(metrics, {})
        self._tags = {**(tags or {}), "run": run}
        self._prefix, self._retention = prefix, retention
        self._definitions: dict[str, Definition] = {}

    def record(self, values: Mapping[str, Any], **position: Any) -> None:
        """Record the values that are numbers, with their *position*, such as the step, as metadata.

        Tensors with one element count as numbers. Errors are logged, not raised.
        """
        for key, value in values.items():
            number = _as_number(value)
            if number is not None:
                self._safe.run(self._gauge(key, number, position))

    def _gauge(
        self, key: str, value: float, position: Mapping[str, Any]
    ) -> Callable[[Recording], None]:
        def record(client: Recording) -> None:
            name = metric_name(f"{self._prefix}{key}")
            if name not in self._definitions:
                self._definitions[name] = define(
                    name,
                    "gauge",
                    exact_samples=True,
                    retention=self._retention,
                    max_tag_values=MAX_RUNS,
                    max_series=MAX_RUNS,
                )
            client.internals.declare_default(name, self._definitions[name])
            client.gauge(name, value, tags=self._tags, metadata=position)

        return record


def metric_name(text: str) -> str:
    """Return a metric name for a library's value name: invalid characters become `_`.

    Slashes are kept: ``val/loss`` is a valid name.
    """
    name = _NOT_ALLOWED.sub("_", text)[:MAX_NAME]
    return name if name[:1].isalpha() or name[:1] == "_" else f"_{name}"[:MAX_NAME]


def missing(library: str, package: str) -> MissingExtra:
    """Return the error for a training library that is not installed."""
    return MissingExtra(f"RunCallback of {library} needs {library}: pip install {package}")


def _as_number(value: Any) -> float | None:
    if isinstance(value, str | bytes):
        return None
    try:
        return float(value)
    # Broad: a tensor with several elements raises an error of its library.
    except Exception:  # noqa: BLE001
        return None
