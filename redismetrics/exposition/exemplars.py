"""Exemplars of series: read from the hash `exemplars`, and formatted for OpenMetrics."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from redismetrics.errors import FormatMismatch, shown
from redismetrics.model.exemplar import StoredExemplar, unpack_exemplar
from redismetrics.model.time import DAY
from redismetrics.store import keys
from redismetrics.store.replies import reading
from redismetrics.store.unreadable import skip

from .names import escape_label_value
from .number_format import format_values
from .series_table import unpack_tags

# The exemplars of a series, by bucket number; 0 for a counter.
ExemplarsOfSeries = dict[int, StoredExemplar]


def read_exemplars(
    tags_by_id: Mapping[int, bytes], stored: Mapping[bytes, bytes], now_ms: float
) -> dict[int, ExemplarsOfSeries]:
    """Return the exemplars of the hash `exemplars` (see keys.py) by series id and bucket.

    Exemplars of removed series, those older than a day, and those that cannot be read are left out:
    the totals are worth more.
    """
    found: dict[int, ExemplarsOfSeries] = {}
    for field, data in stored.items():
        try:
            with reading("an exemplar"):
                number, bucket = keys.series_and_bucket(field)
                exemplar = unpack_exemplar(data)
        except FormatMismatch as error:
            skip(f"exemplar {shown(field)}", error)
            continue
        if tags_by_id.get(number) and exemplar.time_ms >= now_ms - DAY:
            found.setdefault(number, {})[bucket] = exemplar
    return found


def by_text(
    tags_by_id: Mapping[int, bytes], found: Mapping[int, ExemplarsOfSeries]
) -> dict[str, ExemplarsOfSeries]:
    """Return exemplars, given by series id, by the texts of the series in a `SeriesTable`."""
    texts, _, _ = unpack_tags([tags_by_id[number] for number in found])
    return dict(zip(texts, found.values(), strict=True))


def with_exemplars(
    texts: Iterable[str], series: Sequence[str], found: Mapping[str, ExemplarsOfSeries], first: int
) -> Iterator[str]:
    """Yield the lines of each series with its exemplars added.

    *texts* are the lines of each of the *series*, of which the first belongs to the bucket *first*.
    """
    for text, key in zip(texts, series, strict=True):
        of_series = found.get(key)
        if of_series is None:
            yield text
            continue
        lines = text.split("\n")
        for bucket, exemplar in of_series.items():
            # The last line is empty.
            if first <= bucket < first + len(lines) - 1:
                lines[bucket - first] += _suffix(exemplar)
        yield "\n".join(lines)


def _suffix(exemplar: StoredExemplar) -> str:
    labels = ",".join(
        f'{key}="{escape_label_value(value)}"' for key, value in exemplar.labels.items()
    )
    (value,) = format_values([exemplar.value])
    return f" # {{{labels}}} {value} {exemplar.time_ms / 1000:.3f}"
