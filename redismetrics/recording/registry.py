"""The metrics that a process knows, and the rules for changing their definitions."""

from collections.abc import Callable
from typing import Any

from redismetrics.errors import TypeMismatch
from redismetrics.model.definition import Definition, define
from redismetrics.model.options import Options
from redismetrics.model.time import Clock
from redismetrics.model.validation import MetricType

from .buffers import MetricBuffers


class MetricRegistry:
    """The metrics of one recorder, by name. Thread-safe without locks: it only uses `setdefault`.

    An explicit type replaces an inferred one, and the definition in Redis replaces the one of this
    process. Samples buffered by a replaced metric are still sent: see `retired`.

    Args:
        clock: Returns Unix seconds.
        on_replace: Called with the name of a metric whose buffers were replaced.
    """

    def __init__(self, clock: Clock, on_replace: Callable[[str], None]) -> None:
        self._clock = clock
        self._on_replace = on_replace
        self.metrics: dict[str, MetricBuffers] = {}
        # Replaced metrics, which are drained a while longer.
        self.retired: list[MetricBuffers] = []

    def all(self) -> list[MetricBuffers]:
        """Return all metrics that may hold samples, replaced ones first."""
        return [*self.retired, *list(self.metrics.values())]

    def copy_definitions(self, source: "MetricRegistry", *, declared_only: bool) -> None:
        """Take over the definitions of *source*, without its buffers."""
        for name, metric in source.metrics.items():
            if declared_only and not metric.declared:
                continue
            self.metrics[name] = MetricBuffers(
                name, metric.definition, explicit=metric.explicit, declared=metric.declared
            )
            if metric.has_new_options:
                self.metrics[name].given_options = metric.given_options

    def declared(self) -> dict[str, Definition]:
        """Return the definitions that come from `declare`, by name."""
        return {
            name: metric.definition
            for name, metric in list(self.metrics.items())
            if metric.declared
        }

    def get_or_create(self, name: str, kind: MetricType, *, explicit: bool) -> MetricBuffers:
        """Return the metric of this name, or create it; an *explicit* type replaces an inferred
        one.

        Raises:
            TypeMismatch: As `type_of` does, if *explicit*.
        """
        known = self.metrics.get(name)
        if known is None:
            known = self.metrics.setdefault(
                name, MetricBuffers(name, define(name, kind), explicit=explicit)
            )
        if not explicit:
            return known
        if known.definition.type != self.type_of(name, kind):
            return self._replace(known, define(name, kind), declared=False)
        known.explicit = True
        return known

    def type_of(self, name: str, kind: MetricType | None) -> MetricType | None:
        """Return the type that a sample will have; None if it must be inferred. No side effects.

        *kind* is the type given by the caller, if any.

        Raises:
            TypeMismatch: If *kind* contradicts a known type that was not inferred.
        """
        known = self.metrics.get(name)
        if known is None:
            return kind
        if kind is not None and kind != known.definition.type and known.is_fixed:
            raise TypeMismatch(f"{name!r} is a {known.definition.type}; got a {kind}")
        return kind or known.definition.type

    def declare(self, name: str, definition: Definition) -> None:
        """Set the definition of *name*. The first declaration wins, except for options.

        For options, the newest declaration wins; those that it does not give keep their values.

        Raises:
            TypeMismatch: If another definition of the metric is known.
        """
        known = self.metrics.setdefault(
            name, MetricBuffers(name, definition, explicit=True, declared=True)
        )
        if known.definition.agrees_with(definition):
            known.explicit = known.declared = True
            _give_options(known, definition.options)
        elif (
            known.declared
            or known.learned
            or (known.explicit and known.definition.type != definition.type)
        ):
            raise TypeMismatch(f"{name!r} is declared as {known.definition}; got {definition}")
        else:
            _give_options(self._replace(known, definition, declared=True), definition.options)

    def give_options(self, name: str, kind: MetricType, **options: Any) -> None:
        """Declare a metric with these options; its unit, help and other fields keep their values.

        Raises:
            TypeMismatch: If the metric is known with another type.
        """
        new, known = define(name, kind, **options), self.metrics.get(name)
        if known is not None and known.definition.type == kind:
            new = known.definition.with_options(new.options)
        self.declare(name, new)

    def learn_type(self, known: MetricBuffers, definition: Definition) -> None:
        """Replace an inferred type by the *definition* in Redis."""
        new = MetricBuffers(known.name, definition, explicit=False)
        new.learned = True
        self.metrics[known.name] = new
        self.retire(known)
        self._on_replace(known.name)

    def _replace(
        self, old: MetricBuffers, definition: Definition, *, declared: bool
    ) -> MetricBuffers:
        new = MetricBuffers(old.name, definition, explicit=True, declared=declared)
        self.metrics[old.name] = new
        # Samples that it holds, or that a thread is appending right now, are still sent.
        self.retire(old)
        self._on_replace(old.name)
        return new

    def forget(self, name: str) -> bool:
        """Forget a metric that Redis no longer holds; return False if it is unknown.

        Its buffered samples are still sent.
        """
        known = self.metrics.pop(name, None)
        if known is None:
            return False
        self.retire(known)
        return True

    def retire(self, metric: MetricBuffers) -> None:
        """Keep draining a metric for a while after it has been replaced."""
        metric.until_ms = int(self._clock() * 1000)
        self.retired.append(metric)


def _give_options(known: MetricBuffers, options: Options) -> None:
    """Note the options given to `declare`, which Redis may not have yet."""
    changed = known.definition.with_options(options)
    waiting = known.given_options if known.has_new_options else None
    if waiting is None and not options.given():
        return
    if known.learned and waiting is None and changed == known.definition:
        return
    known.given_options = options if waiting is None else waiting.updated(options)
    # They count here at once. The sender stores them before the next samples.
    known.definition = changed
