"""PyTorch Lightning: the values that a module logs during training and validation.

from redismetrics.integrations.lightning import RunCallback
Trainer(callbacks=[RunCallback("run-1")])
"""

from typing import TYPE_CHECKING, Any

from .run_values import RunValues, missing

if TYPE_CHECKING:
    RunCallback: Any


def __getattr__(name: str) -> Any:
    """Create `RunCallback` on first use, because its base class belongs to Lightning."""
    if name != "RunCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from lightning.pytorch.callbacks import Callback
    except ImportError:
        try:
            from pytorch_lightning.callbacks import Callback
        except ImportError as error:
            raise missing("Lightning", "lightning") from error
    globals()[name] = _callback_class(Callback)
    return globals()[name]


def _callback_class(base: Any) -> Any:
    class RunCallback(base):  # type: ignore[misc]
        """Record the values logged by the module with ``self.log(...)``, with `step` and `epoch`.

        After a training batch, the values that changed since the last one; after a validation, its
        results. If there are several processes, the first one records.

        Args:
            run: Name of the run, stored as the tag `run`.
            options: Options of `RunValues`: tags, prefix, metrics, retention.
        """

        # So that it can be pickled.
        __qualname__ = "RunCallback"

        def __init__(self, run: str, **options: Any) -> None:
            super().__init__()
            self._run_values = RunValues(run, **options)
            # The last recorded values: results of a validation stay in the Trainer until the next
            # one.
            self._seen: dict[str, Any] = {}

        def _record(self, trainer: Any) -> None:
            if not trainer.is_global_zero or trainer.sanity_checking:
                return
            logged = dict(trainer.logged_metrics)
            new = {key: value for key, value in logged.items() if self._seen.get(key) is not value}
            self._seen = logged
            self._run_values.record(new, step=trainer.global_step, epoch=trainer.current_epoch)

        def on_train_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
            self._record(trainer)

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            self._record(trainer)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self._record(trainer)

    return RunCallback
