"""The methods of clients that return an instrument: `summary`, `info` and `state_set`."""

from collections.abc import Iterable

from .instruments import InfoInstrument, StateSetInstrument, SummaryInstrument
from .methods import Recording


class InstrumentMethods(Recording):
    """The recording methods, and those that return an instrument of this client."""

    def summary(self, name: str) -> SummaryInstrument:
        """Return the summary *name*: ``metrics.summary("took").record(0.5, queue="mail")``.

        A summary is a histogram without buckets: on the Prometheus page it has a count and a sum.
        Queries answer everything that they answer about a histogram, percentiles included.
        """
        return SummaryInstrument(name, metrics=self)

    def info(self, name: str) -> InfoInstrument:
        """Return the info *name*: ``metrics.info("build").set({"version": "1.2"}, app="shop")``.

        An info is a set of labels with the value 1. What is set replaces what any process has set
        before for the same tags.
        """
        return InfoInstrument(name, metrics=self)

    def state_set(self, name: str, states: Iterable[str] | None = None) -> StateSetInstrument:
        """Return the state set *name*: ``metrics.state_set("door", ["open", "shut"]).set("open")``.

        One of *states* is 1 and the others are 0, whatever process has set it last. Without
        *states*, they are those that were declared, or, if there are none, all that were ever set.
        """
        if states is not None:
            self._recorder.registry.give_options(name, "stateset", states=states)
        return StateSetInstrument(name, metrics=self)
