"""Execute events at the start and the end of a block."""

import sys
import time
from collections.abc import Iterable
from typing import Any

from redismetrics.recording.open_bodies import OpenBodies

from .bus import Metadata, check_event, execute


class span:  # noqa: N801  # It is used as a function.
    """Execute events around a block.

        with telemetry.span(("db", "query"), {"table": "users"}) as metadata:
            metadata["rows"] = run_query()

    At its start ``(..., "start")`` with `system_time`, the Unix time in ns. At its end ``(...,
    "stop")`` with `duration` in ns; or, if the block raises, ``(..., "exception")`` with `duration`
    and, in the metadata, `error`: the class of the error, which is re-raised. Whatever the block
    adds to *metadata* is part of the second event. One span may be used for several blocks at the
    same time, each with its own metadata.

    Raises:
        InvalidName: If *event* is not a sequence of text.
    """

    __slots__ = ("_event", "_metadata", "_open")

    def __init__(self, event: Iterable[str], metadata: Metadata | None = None) -> None:
        self._event = check_event(event)
        self._metadata = dict(metadata or {})
        # The start time of each block in ns, and its metadata.
        self._open: OpenBodies[tuple[int, dict[str, Any]]] = OpenBodies()

    def __enter__(self) -> dict[str, Any]:
        metadata = dict(self._metadata)
        execute((*self._event, "start"), {"system_time": time.time_ns()}, dict(metadata))
        self._open.begin((time.perf_counter_ns(), metadata), sys._getframe(1))
        return metadata

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        began, metadata = self._open.end(sys._getframe(1))
        measurements = {"duration": time.perf_counter_ns() - began}
        if kind is None:
            execute((*self._event, "stop"), measurements, metadata)
        else:
            execute((*self._event, "exception"), measurements, {**metadata, "error": kind.__name__})
