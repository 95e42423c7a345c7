"""Installs redismetrics in a program started by `redismetrics run`, and in its child processes.

`redismetrics run` prepends this folder to PYTHONPATH, so Python imports this module at startup. The
module then runs the `sitecustomize` that Python would have imported otherwise. It imports nothing
from redismetrics until the program imports `prometheus_client`, unless the option
`--process-metrics` was given.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

_TARGET = "prometheus_client"
# Set by `redismetrics run --process-metrics`.
_PROCESS_METRICS = "REDISMETRICS_RUN_PROCESS_METRICS"
_FOLDER = os.path.dirname(os.path.abspath(__file__))


class _InstallAfterImport(importlib.abc.MetaPathFinder):
    """Installs redismetrics after the first import of `prometheus_client`.

    It stays until then: many programs first only look whether there is such a module.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _TARGET:
            return None
        # A finder may remove itself.
        for finder in list(sys.meta_path):
            find: Any = getattr(finder, "find_spec", None)
            if find is None or finder is self:
                continue
            spec: importlib.machinery.ModuleSpec | None = find(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, self)
                return spec
        return None


class _Loader(importlib.abc.Loader):
    """Loads a module with its own loader, and then installs redismetrics."""

    def __init__(self, loader: Any, finder: _InstallAfterImport) -> None:
        self._loader, self._finder = loader, finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        found: ModuleType | None = self._loader.create_module(spec)
        return found

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
            attempt(install, "prometheus_client counts for this process alone")


def install() -> None:
    """Store the metrics of prometheus_client in Redis."""
    from redismetrics.compat.prometheus_client import install

    install()


def watch() -> None:
    """Record metrics of this process."""
    from redismetrics.integrations.process import watch_process

    watch_process()


def attempt(step: Callable[[], object], failure: str) -> None:
    """Call *step*; if it fails, print one line, and let the program run without redismetrics."""
    try:
        step()
    except Exception as error:  # noqa: BLE001 - the program must not notice
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"redismetrics: {failure}: {text}", file=sys.stderr)


def run_next() -> None:
    """Run the `sitecustomize` that this one shadows, if there is one."""
    folders = [each for each in sys.path if os.path.abspath(each) != _FOLDER]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", folders)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


sys.meta_path.insert(0, _InstallAfterImport())
if os.environ.get(_PROCESS_METRICS):
    attempt(watch, "no process metrics")
run_next()
