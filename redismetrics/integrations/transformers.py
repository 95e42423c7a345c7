"""Hugging Face Transformers: the values that a Trainer logs.

from redismetrics.integrations.transformers import RunCallback
Trainer(..., callbacks=[RunCallback("run-1")])
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .run_values import RunValues, missing

if TYPE_CHECKING:
    RunCallback: Any


def __getattr__(name: str) -> Any:
    """Create `RunCallback` on first use, because its base class belongs to Transformers."""
    if name != "RunCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from transformers import TrainerCallback
    except ImportError as error:
        raise missing("Transformers", "transformers") from error
    globals()[name] = _callback_class(TrainerCallback)
    return globals()[name]


def _callback_class(base: Any) -> Any:
    class RunCallback(base):  # type: ignore[misc]
        """Record the values that the Trainer logs every `logging_steps`, with `step` and `epoch`.

        If there are several processes, the main one records.

        Args:
            run: Name of the run, stored as the tag `run`.
            options: Options of `RunValues`: tags, prefix, metrics, retention.
        """

        # So that it can be pickled.
        __qualname__ = "RunCallback"

        def __init__(self, run: str, **options: Any) -> None:
            self._run_values = RunValues(run, **options)

        def on_log(
            self,
            args: Any,
            state: Any,
            control: Any,
            logs: Mapping[str, Any] | None = None,
            **kwargs: Any,
        ) -> None:
            if state.is_world_process_zero:
                values = {key: value for key, value in (logs or {}).items() if key != "epoch"}
                self._run_values.record(values, step=state.global_step, epoch=state.epoch)

    return RunCallback
