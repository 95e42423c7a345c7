"""Callbacks of training libraries, called as the libraries call them.

The calls of Keras were recorded from `fit` with version 3.15 and JAX; where both are installed, a
test runs it. Those of Transformers and Lightning follow their sources: both would bring a build for
GPUs.
"""

import importlib
import importlib.util
import json
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from redismetrics import Metrics, MissingExtra
from redismetrics.integrations.run_values import RunValues, metric_name

ROOT = Path(__file__).parents[2]
LIBRARIES = {
    "keras": ("keras.callbacks", "Callback"),
    "transformers": ("transformers", "TrainerCallback"),
    "lightning": ("lightning.pytorch.callbacks", "Callback"),
}


class Base:
    """In place of the base class of a library: each of its methods does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("on_"):
            return lambda *_, **__: None
        raise AttributeError(name)


@pytest.fixture
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Our module for a library that seems to be installed."""
    name: str = request.param
    path, base = LIBRARIES[name]
    parts = path.split(".")
    for end in range(1, len(parts) + 1):
        module = ModuleType(".".join(parts[:end]))
        module.__path__ = []  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
    setattr(sys.modules[path], base, Base)
    ours = importlib.import_module(f"redismetrics.integrations.{name}")
    yield ours
    vars(ours).pop("RunCallback", None)


def recorded(metrics: Metrics, name: str, run: str = "r1") -> list[tuple[int, float, float]]:
    """Return step, epoch and value of each sample of a run."""
    return [
        (sample.metadata["step"], sample.metadata["epoch"], sample.value)
        for sample in metrics.query(name, tags={"run": run})
    ]


def names(metrics: Metrics) -> set[str]:
    return {row["name"] for row in metrics.list_metrics()}


# -- each library ---------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["keras"], indirect=True)
def test_keras(library: Any, metrics: Metrics) -> None:
    callback = library.RunCallback("r1", metrics=metrics, tags={"model": "small"})
    losses = ((3.8065357208251953, 4.01, 3.24), (0.6641985177993774, 2.89, 2.7))
    validation = (2.8451833724975586, 2.3566982746124268)
    callback.on_train_begin({})
    for epoch in range(2):
        callback.on_epoch_begin(epoch, {})
        for batch in range(3):
            callback.on_train_batch_begin(batch, logs={})
            callback.on_train_batch_end(batch, logs={"loss": losses[epoch][batch]})
        callback.on_test_begin({})
        callback.on_test_batch_end(0, logs={"loss": 0.19})
        callback.on_test_end({"loss": validation[epoch]})
        callback.on_epoch_end(epoch, {"loss": losses[epoch][2], "val_loss": validation[epoch]})
    callback.on_train_end({})
    assert recorded(metrics, "loss") == [
        (3 * epoch + batch + 1, epoch, losses[epoch][batch])
        for epoch in range(2)
        for batch in range(3)
    ]
    assert recorded(metrics, "epoch_loss") == [(3, 0, 3.24), (6, 1, 2.7)]
    assert recorded(metrics, "epoch_val_loss") == [(3, 0, validation[0]), (6, 1, validation[1])]
    assert metrics.query("loss", aggregation="count", tags={"model": "small"}) == 6


@pytest.mark.parametrize("library", ["transformers"], indirect=True)
def test_transformers(library: Any, metrics: Metrics) -> None:
    def log(step: int, epoch: float, *, main: bool = True, **logs: Any) -> None:
        state = SimpleNamespace(global_step=step, epoch=epoch, is_world_process_zero=main)
        found = callback.on_log(None, state, None, logs={**logs, "epoch": epoch}, model=None)
        assert found is None

    callback = library.RunCallback("r1", metrics=metrics, prefix="train/")
    callback.on_train_begin(None, None, None)
    log(10, 0.5, loss=2.5, grad_norm=1.25, learning_rate=5e-05)
    log(10, 0.5, main=False, loss=99.0)
    log(20, 1.0, loss=2.0, grad_norm=1.0, learning_rate=2.5e-05)
    log(20, 1.0, eval_loss=2.25, eval_runtime=0.5)
    log(20, 1.0, train_runtime=3.5, train_loss=2.25, note="not a number")
    assert recorded(metrics, "train/loss") == [(10, 0.5, 2.5), (20, 1.0, 2.0)]
    assert recorded(metrics, "train/eval_loss") == [(20, 1.0, 2.25)]
    assert names(metrics) == {
        f"train/{each}"
        for each in (
            *("loss", "grad_norm", "learning_rate", "eval_loss", "eval_runtime"),
            *("train_runtime", "train_loss"),
        )
    }


@pytest.mark.parametrize("library", ["lightning"], indirect=True)
def test_lightning(library: Any, metrics: Metrics) -> None:
    trainer = SimpleNamespace(
        is_global_zero=True,
        sanity_checking=True,
        logged_metrics={},
        global_step=0,
        current_epoch=0,
    )
    callback = library.RunCallback("r1", metrics=metrics)
    other = library.RunCallback("r2", metrics=metrics)
    # The check before the training records nothing.
    trainer.logged_metrics = {"val/loss": Tensor(9.0)}
    callback.on_validation_end(trainer, None)
    trainer.sanity_checking, trainer.logged_metrics = False, {}
    for epoch in range(2):
        trainer.current_epoch = epoch
        for batch in range(2):
            trainer.global_step += 1
            trainer.logged_metrics["train/loss"] = Tensor(1 / trainer.global_step)
            callback.on_train_batch_end(trainer, None, {"loss": 0}, None, batch)
            other.on_train_batch_end(
                SimpleNamespace(**{**vars(trainer), "is_global_zero": False}), None, None, None, 0
            )
        trainer.logged_metrics["val/loss"] = Tensor(2.0 + epoch)
        callback.on_validation_end(trainer, None)
        callback.on_train_epoch_end(trainer, None)
    assert recorded(metrics, "train/loss") == [
        (1, 0, 1.0),
        (2, 0, 1 / 2),
        (3, 1, 1 / 3),
        (4, 1, 1 / 4),
    ]
    # Once each, though the Trainer still shows it while the next epoch is trained.
    assert recorded(metrics, "val/loss") == [(2, 0, 2.0), (4, 1, 3.0)]
    assert metrics.tag_values("train/loss", "run") == ["r1"]


class Tensor:
    """A value that is a number only for `float`, as tensors are."""

    def __init__(self, value: float) -> None:
        self._value = value

    def __float__(self) -> float:
        return self._value


@pytest.mark.slow
def test_keras_with_jax(url: str, namespace: str) -> None:
    for name in ("keras", "jax"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"no {name}: pip install keras jax")
    code = """
import json, numpy, keras
from redismetrics import Metrics
from redismetrics.integrations.keras import RunCallback
x = numpy.arange(12.0).reshape(6, 2) / 10
model = keras.Sequential([keras.layers.Dense(1)])
model.compile("sgd", "mse")
with Metrics() as metrics:
    callback = RunCallback("r1", metrics=metrics)
    model.fit(x, x.sum(1), batch_size=2, epochs=2, validation_data=(x, x.sum(1)), verbose=0,
              callbacks=[callback])
    print(json.dumps([sample.metadata["step"] for sample in metrics.query("loss")]))
"""
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "REDISMETRICS_URL": url,
        "REDISMETRICS_NAMESPACE": namespace,
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert json.loads(done.stdout) == [1, 2, 3, 4, 5, 6]


# -- what they share ------------------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARIES, indirect=True)
def test_callbacks_can_be_pickled_before_the_training(library: Any) -> None:
    found = pickle.loads(pickle.dumps(library.RunCallback("r1")))
    assert type(found) is library.RunCallback
    with pytest.raises(AttributeError, match="no attribute 'Other'"):
        _ = library.Other


@pytest.mark.parametrize("name", LIBRARIES)
def test_missing_library_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (name, LIBRARIES[name][0], "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, module, None)
    ours = importlib.import_module(f"redismetrics.integrations.{name}")
    with pytest.raises(MissingExtra, match=f"RunCallback of .* pip install {name}"):
        _ = ours.RunCallback


def test_older_name_of_lightning_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    old = ModuleType("pytorch_lightning.callbacks")
    old.Callback = Base  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lightning.pytorch.callbacks", None)
    monkeypatch.setitem(sys.modules, "pytorch_lightning", ModuleType("pytorch_lightning"))
    monkeypatch.setitem(sys.modules, "pytorch_lightning.callbacks", old)
    ours = importlib.import_module("redismetrics.integrations.lightning")
    assert issubclass(ours.RunCallback, Base)
    vars(ours).pop("RunCallback")


def test_values_are_kept_one_by_one(metrics: Metrics) -> None:
    RunValues("r1", metrics=metrics, retention=7_200).record({"loss": 0.5}, step=1)
    assert metrics.query("loss")[0].metadata == {"step": 1}
    assert metrics.list_metrics()[0]["options"] == {
        "exact_samples": True,
        "retention": 7_200,
        "max_tag_values": 100_000,
        "max_series": 100_000,
    }


def test_declarations_of_the_application_are_kept(metrics: Metrics) -> None:
    metrics.declare("loss", "histogram", retention=7_200)
    RunValues("r1", metrics=metrics).record({"loss": 0.5}, step=1)
    metrics.histogram("loss", 1)
    (row,) = metrics.list_metrics()
    assert (row["type"], row["options"]) == ("histogram", {"retention": 7_200})


def test_values_that_are_not_numbers_are_ignored(metrics: Metrics) -> None:
    values = {"a": "5", "b": None, "c": [1, 2], "d": math.nan, "e": True, "f": 2, "g": b"1"}
    RunValues("r1", metrics=metrics).record(values, step=1)
    assert names(metrics) == {"e", "f"}
    assert metrics.stats()["dropped"] == {"invalid": 1}


@pytest.mark.parametrize(
    ("text", "name"),
    [("val/loss", "val/loss"), ("top 5 %", "top_5__"), ("1st", "_1st"), ("ä", "_"), ("", "_")],
)
def test_names_are_made_valid(text: str, name: str) -> None:
    assert metric_name(text) == name
    assert len(metric_name(f"9{'x' * 500}")) == 200
