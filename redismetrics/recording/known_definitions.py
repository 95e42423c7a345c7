"""What the sender knows about the metrics in Redis: definitions and series ids."""

from collections.abc import Iterable

from redismetrics.model.definition import Definition
from redismetrics.model.options import Options

from .batch import MetricBatch
from .bindings import CACHED
from .buffers import MetricBuffers
from .known_series import KnownSeries
from .recorder import Recorder


class KnownDefinitions:
    """The sender's view of a recorder's metrics: their state in Redis.

    Attributes:
        conflicts: How often Redis had a different definition than the one declared here.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.conflicts = 0

    def _metric(self, name: str) -> MetricBuffers | None:
        return self._recorder.metrics.get(name)

    def is_learned(self, name: str) -> bool:
        """Return whether the definition is the one in Redis, with all options given here."""
        metric = self._metric(name)
        return metric is not None and metric.learned and not metric.has_new_options

    def new_options(self, name: str) -> Options | None:
        """Return the options given to `declare` that Redis does not have yet."""
        metric = self._metric(name)
        return metric.given_options if metric is not None and metric.has_new_options else None

    def definition(self, name: str) -> Definition | None:
        """Return the definition of a metric in this process; None if it is unknown."""
        metric = self._metric(name)
        return None if metric is None else metric.definition

    def learn(self, name: str, definition: Definition) -> None:
        """Adopt the definition in Redis, unless its type contradicts an explicit one.

        In that case the samples don't fit, and are dropped later.
        """
        metric = self._metric(name)
        if metric is None:
            return
        metric.learned = True
        self._compare_options(metric, definition)
        if metric.definition == definition:
            return
        if metric.definition.type == definition.type:
            if metric.declared and not metric.definition.agrees_with(definition):
                self.conflicts += 1
                self._recorder.warn_once(
                    "%s is declared differently in Redis, and that definition is used: %s",
                    name,
                    definition,
                )
            metric.definition = definition
        elif not metric.explicit:
            self._recorder.registry.learn_type(metric, definition)

    def confirm(self, name: str, definition: Definition) -> None:
        """Note that Redis stored samples with this definition."""
        metric = self._metric(name)
        if metric is None or (metric.learned and not metric.has_new_options):
            return
        if metric.definition != definition:
            return
        metric.learned = True
        self._compare_options(metric, definition)

    @staticmethod
    def _compare_options(metric: MetricBuffers, definition: Definition) -> None:
        """Note whether *definition*, which Redis holds, has the options that were given here."""
        given = metric.given_options
        if given is None or not metric.has_new_options:
            return
        # A metric of another type rejects samples, and options too.
        if metric.definition.type != definition.type or (
            definition.with_options(given) == definition
        ):
            metric.stored_options = given

    # -- numbers of series ------------------------------------------------------------------------

    def series(self, name: str) -> KnownSeries:
        """Return the series of a metric that Redis is known to have."""
        metric = self._metric(name)
        return KnownSeries() if metric is None else metric.known_series

    def learn_ids(self, batch: MetricBatch, ids: Iterable[int], epoch: int, stamp: bytes) -> None:
        """Remember the series ids of a stored batch."""
        known = self.series(batch.name)
        if len(known.ids) > CACHED:
            known.forget()
        known.learn(batch.canonicals, ids, epoch, stamp, batch.definition)

    def forget_ids(self, name: str | None = None) -> None:
        """Forget the series ids of one metric, or of all."""
        if name is not None:
            self.series(name).forget()
            return
        for metric in list(self._recorder.metrics.values()):
            metric.known_series.forget()
