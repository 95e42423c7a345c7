"""Execute events at the start and end of a block."""

import time
from collections.abc import Iterable
from typing import Any

from .bus import Metadata, check_event, execute


class span:  # noqa: N801  # It is used as a function.
    """Execute events around a block.

        with telemetry.span(("db", "query"), {"table": "users"}) as metadata:
            metadata["rows"] = run_query()

    At its start ``(..., "start")`` with `system_time`, the Unix time in ns. At its end
    ``(..., "stop")`` with `duration` in ns; or, if the block raises, ``(..., "exception")`` with
    `duration` and, in the metadata, `error`: the class of the error, which is re-raised. What the
    block adds to *metadata* is part of the second event.

    Raises:
        InvalidName: If *event* is not a sequence of text.
    """

    __slots__ = ("_began", "_event", "_metadata")

    def __init__(self, event: Iterable[str], metadata: Metadata | None = None) -> None:
        self._event = check_event(event)
        self._metadata = dict(metadata or {})

    def __enter__(self) -> dict[str, Any]:
        execute((*self._event, "start"), {"system_time": time.time_ns()}, dict(self._metadata))
        self._began = time.perf_counter_ns()
        return self._metadata

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        measurements = {"duration": time.perf_counter_ns() - self._began}
        if kind is None:
            execute((*self._event, "stop"), measurements, self._metadata)
        else:
            metadata = {**self._metadata, "error": kind.__name__}
            execute((*self._event, "exception"), measurements, metadata)
