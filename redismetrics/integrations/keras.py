"""Keras: the logs of each batch and each epoch of a run.

from redismetrics.integrations.keras import RunCallback
model.fit(x, y, callbacks=[RunCallback("run-1")])
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .run_values import RunValues, missing

if TYPE_CHECKING:
    RunCallback: Any


def __getattr__(name: str) -> Any:
    """Create `RunCallback` on first use, because its base class belongs to Keras."""
    if name != "RunCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from keras.callbacks import Callback
    except ImportError as error:
        raise missing("Keras", "keras") from error
    globals()[name] = _callback_class(Callback)
    return globals()[name]


def _callback_class(base: Any) -> Any:
    class RunCallback(base):  # type: ignore[misc]
        """Record the logs of `fit` and `evaluate`, each with `step` and `epoch`.

        The logs of a training batch are passed on from Keras: means since the epoch began. The logs
        of an epoch, including validation, have the prefix ``epoch_``.

        Args:
            run: Name of the run, stored as the tag `run`.
            options: Options of `RunValues`: tags, prefix, metrics, retention.
        """

        # So that it can be pickled.
        __qualname__ = "RunCallback"

        def __init__(self, run: str, **options: Any) -> None:
            super().__init__()
            self._run_values = RunValues(run, **options)
            self._step = self._epoch = 0

        def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
            self._epoch = epoch

        def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
            self._step += 1
            self._run_values.record(logs or {}, step=self._step, epoch=self._epoch)

        def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
            values = {f"epoch_{key}": value for key, value in (logs or {}).items()}
            self._run_values.record(values, step=self._step, epoch=epoch)

    return RunCallback
