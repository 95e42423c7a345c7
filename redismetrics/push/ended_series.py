"""Series that were in one snapshot and are missing in the next."""

from collections.abc import Iterator
from dataclasses import replace

from redismetrics.exposition.families import SeriesState
from redismetrics.exposition.named_families import NamedFamily
from redismetrics.exposition.series_table import SeriesTable

from .snapshot import TotalsSnapshot

Ended = tuple[NamedFamily, dict[str, str], SeriesState]


def ended_series(before: TotalsSnapshot | None, now: TotalsSnapshot) -> Iterator[Ended]:
    """Yield family, labels and last state of each series that ended since *before*.

    Such a series was deleted, is idle, or is the older state of an info.
    """
    if before is None:
        return
    current = {_key(named): named for named in now.families}
    for named in before.families:
        newer = current.get(_key(named))
        table = SeriesTable.of(named.family.series)
        gone = set(table.texts)
        if newer is not None:
            gone -= set(SeriesTable.of(newer.family.series).texts)
        if gone:
            rows = table.take([at for at, text in enumerate(table.texts) if text in gone])
            # Series with different tags may have the same labels.
            kept = {_frozen(labels) for labels, _ in newer.series()} if newer else set()
            for labels, state in replace(named, family=replace(named.family, series=rows)).series():
                if _frozen(labels) not in kept:
                    yield named, labels, state


def _key(named: NamedFamily) -> tuple[str, str]:
    return named.base, named.family.definition.type


def _frozen(labels: dict[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())
