"""The methods of clients that return an instrument: `summary`."""

from .instruments import SummaryInstrument
from .methods import Recording


class InstrumentMethods(Recording):
    """The recording methods, and those that return an instrument of this client."""

    def summary(self, name: str) -> SummaryInstrument:
        """Return the summary *name*: ``metrics.summary("took").record(0.5, queue="mail")``.

        A summary is a histogram without buckets: on the Prometheus page it has a count and a sum.
        Queries answer everything that they answer about a histogram, percentiles included.
        """
        return SummaryInstrument(name, metrics=self)
