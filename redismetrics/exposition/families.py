"""A metric with the current values of its series."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from redismetrics.model.definition import Definition
from redismetrics.model.exemplar import StoredExemplar


@dataclass(frozen=True, slots=True)
class SeriesState:
    """The current value of one series since it began, as shown on the Prometheus page.

    *value* is a counter's total, a gauge's value, 1 or 0 for an info or state set, or the sum of a
    histogram or summary. *count* is set for the latter two; *buckets* are a histogram's counts, one
    per bound of the definition, not cumulative, without +Inf. *seen_ms* is the server's time of the
    series' last batch. *exemplars*, if requested, are by bucket, numbered from 1; a counter has
    only bucket 0.
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

    *skipped* is the number of changes and fields from a newer version that are missing in the
    values.
    """

    name: str
    definition: Definition
    series: Sequence[SeriesState]
    skipped: int = 0
