"""The places where prometheus_client is patched.

Everything else is the real package: names, errors, the text of a page, private attributes. Its
exports are changed in place, so it does not matter who imported them before.
"""

import functools
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import exposition, metrics, multiprocess, registry, values
from prometheus_client.metrics_core import Metric

from redismetrics.errors import StoreError, one_line

from .asgi import read_in_threads
from .callbacks import Callbacks
from .children import Children
from .label_sets import LabelSets
from .pages import Pages
from .removals import remove_series

_PLAIN = "text/plain; charset=utf-8"


def open_seams(children: Children, pages: Pages, callbacks: Callbacks) -> None:
    """Make metrics record with *children*, and registries show *pages*. Call it once."""
    values.ValueClass = children
    _wrap(metrics.MetricWrapperBase, "__init__", _making(children))
    _record_label_sets(children)
    _wrap(metrics.Gauge, "set_function", _following(callbacks))
    _remove_everywhere(children)
    _wrap(registry.CollectorRegistry, "collect", _collecting(pages))
    _wrap(registry.RestrictedRegistry, "collect", _collecting_some(pages))
    _replace_multiprocess(pages)
    _answer_without_redis()
    read_in_threads(pages)


def _wrap(owner: Any, name: str, wrapper: Callable[[Any], Any]) -> None:
    original = getattr(owner, name)
    setattr(owner, name, functools.wraps(original)(wrapper(original)))


def _making(children: Children) -> Callable[[Any], Any]:
    def wrapper(original: Any) -> Any:
        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            with children.making(self) as made:
                original(self, *args, **kwargs)
            # Not before it is registered, because the name may be taken.
            for value in made:
                value.create()

        return init

    return wrapper


def _record_label_sets(children: Children) -> None:
    """Record the values of infos and enums, which do not use `ValueClass`."""
    label_sets = LabelSets(children)

    def making(original: Any) -> Any:
        def metric_init(self: Any) -> None:
            original(self)
            self._redismetrics_records = not children.keeps_local
            if not children.keeps_local:
                children.families.add(self._name)

        return metric_init

    def setting(record: Callable[[Any, Any], None]) -> Callable[[Any], Any]:
        def wrapper(original: Any) -> Any:
            def set_value(self: Any, value: Any) -> None:
                original(self, value)
                # Metrics created earlier have no such attribute.
                if getattr(self, "_redismetrics_records", True):
                    record(self, value)

            return set_value

        return wrapper

    for kind, method, record in (
        (metrics.Info, "info", label_sets.set_info),
        (metrics.Enum, "state", label_sets.set_state),
    ):
        _wrap(kind, "_metric_init", making)
        _wrap(kind, method, setting(record))


def _following(callbacks: Callbacks) -> Callable[[Any], Any]:
    def wrapper(original: Any) -> Any:
        def set_function(self: Any, f: Callable[[], float]) -> None:
            original(self, f)
            callbacks.follow(self, f)

        return set_function

    return wrapper


def _remove_everywhere(children: Children) -> None:
    """Make `remove`, `remove_by_labels` and `clear` remove series of all processes."""

    def removing(labels_of: Callable[..., dict[str, Any] | None]) -> Callable[[Any], Any]:
        def wrapper(original: Any) -> Any:
            def remove(self: Any, *args: Any) -> None:
                if values.ValueClass is not children:
                    original(self, *args)
                    return
                with warnings.catch_warnings():
                    # The warning that this is not possible in the real multi-process mode.
                    warnings.simplefilter("ignore", UserWarning)
                    original(self, *args)
                labels = labels_of(self, *args)
                if labels is not None:
                    remove_series(children, self, labels)

            return remove

        return wrapper

    base = metrics.MetricWrapperBase
    _wrap(
        base, "remove", removing(lambda self, *row: dict(zip(self._labelnames, row, strict=True)))
    )
    # Without label names, there is nothing to clear.
    _wrap(base, "clear", removing(lambda self: {} if self._labelnames else None))
    if hasattr(base, "remove_by_labels"):
        _wrap(base, "remove_by_labels", removing(lambda self, labels: dict(labels) or None))


def _collecting(pages: Pages) -> Callable[[Any], Any]:
    def wrapper(original: Any) -> Any:
        def collect(self: registry.CollectorRegistry) -> Iterable[Metric]:
            found: Iterable[Metric] = (
                pages.collect(self) if pages.shows_all(self) else original(self)
            )
            return found

        return collect

    return wrapper


def _collecting_some(pages: Pages) -> Callable[[Any], Any]:
    def wrapper(original: Any) -> Any:
        def collect(self: registry.RestrictedRegistry) -> Iterator[Metric]:
            if not pages.shows_all(self._registry):
                yield from original(self)
                return
            for metric in pages.collect(self._registry):
                restricted = metric._restricted_metric(self._name_set)
                if restricted is not None:
                    yield restricted

        return collect

    return wrapper


def _replace_multiprocess(pages: Pages) -> None:
    """Make the multi-process mode read Redis instead of its folder.

    Files are read again if something replaces our `ValueClass`.
    """
    collector: Any = multiprocess.MultiProcessCollector
    real_init, real_collect = collector.__init__, collector.collect
    real_mark = multiprocess.mark_process_dead

    def init(self: Any, registry: Any, path: str | None = None) -> None:
        if not pages.are_ours:
            real_init(self, registry, path)
        elif registry:
            registry.register(self)

    def collect(self: Any) -> Iterable[Metric]:
        if not pages.are_ours:
            found: Iterable[Metric] = real_collect(self)
            return found
        return pages.collect_all()

    def describe(self: Any) -> list[Metric]:
        # Not through `collect`, which would read Redis and find registered names.
        return []

    @functools.wraps(real_mark)
    def mark_process_dead(pid: int, path: str | None = None) -> None:
        if not pages.are_ours:
            real_mark(pid, path)
        else:
            pages.mark_process_dead(int(pid))

    multiprocess.mark_process_dead = mark_process_dead
    collector.__init__ = functools.wraps(real_init)(init)
    collector.collect = functools.wraps(real_collect)(collect)
    collector.describe = describe


def _answer_without_redis() -> None:
    """Make the pages of prometheus_client respond with status 503 if Redis does not answer."""
    real = exposition._bake_output

    @functools.wraps(real)
    def bake_output(*args: Any, **kwargs: Any) -> tuple[str, list[tuple[str, str]], bytes]:
        try:
            found: tuple[str, list[tuple[str, str]], bytes] = real(*args, **kwargs)
        except StoreError as error:
            body = one_line(error).encode("utf-8", "replace") + b"\n"
            return "503 Service Unavailable", [("Content-Type", _PLAIN)], body
        return found

    for name, module in list(sys.modules.items()):
        if name.startswith("prometheus_client") and vars(module).get("_bake_output") is real:
            module._bake_output = bake_output  # type: ignore[attr-defined]
