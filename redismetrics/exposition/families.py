"""A metric with the current values of its series."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from redismetrics.model.definition import Definition
from redismetrics.model.exemplar import StoredExemplar


@dataclass(frozen=True, slots=True)
class SeriesState:
    """The current value of one series, since the series began: what the Prometheus page shows.

    *value* is a counter's total, a gauge's value, 1 or 0 of an info or state set, or the sum of a
    histogram or summary. *count* is that of the latter two, *buckets* are a histogram's: one count
    for each bound of the definition, not cumulative, without +Inf.
    *seen_ms* is the server's time of the series' last batch. *exemplars* are those of its buckets,
    numbered from 1, or of the bucket 0 of a counter, if they were asked for.
    """

    tags: dict[str, str]
    seen_ms: int
    value: float
    count: int = 0
    buckets: tuple[int, ...] = ()
    exemplars: Mapping[int, StoredExemplar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with the current values of all its series.

    *skipped* is how many changes and fields of a newer version of redismetrics the values lack.
    """

    name: str
    definition: Definition
    series: Sequence[SeriesState]
    skipped: int = 0
