"""The methods of clients that return an instrument: `summary`, `info` and `state_set`."""

from collections.abc import Iterable

from .instruments import InfoInstrument, StateSetInstrument, SummaryInstrument
from .methods import Recording


class InstrumentMethods(Recording):
    """The recording methods, and the methods that return an instrument of this client."""

    def summary(self, name: str) -> SummaryInstrument:
        """Return the summary *name*: ``metrics.summary("took").record(0.5, queue="mail")``.

        A summary is a histogram without buckets: on the Prometheus page it has only a count and a
        sum. Queries support everything that they support for histograms, including percentiles.
        """
        return SummaryInstrument(name, metrics=self)

    def info(self, name: str) -> InfoInstrument:
        """Return the info *name*: ``metrics.info("build").set({"version": "1.2"}, app="shop")``.

        An info is a set of labels with the value 1. Setting it replaces the labels that any process
        has set before for the same tags.
        """
        return InfoInstrument(name, metrics=self)

    def state_set(self, name: str, states: Iterable[str] | None = None) -> StateSetInstrument:
        """Return the state set *name*: ``metrics.state_set("door", ["open", "shut"]).set("open")``.

        One of *states* is 1 and the others are 0, whichever process set it last. Without *states*,
        the declared states are used, or, if there are none, all states ever set.
        """
        if states is not None:
            self._recorder.registry.give_options(name, "stateset", states=states)
        return StateSetInstrument(name, metrics=self)
