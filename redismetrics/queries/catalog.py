"""List metrics, their series and their tags."""

from collections.abc import Iterable

from redismetrics.model.definition import Definition
from redismetrics.model.label_sets import LABELS_TAG
from redismetrics.model.time import to_datetime
from redismetrics.model.validation import OVERFLOW_TAGS
from redismetrics.store import catalog, keys, stats
from redismetrics.store.driver import Operation, gather
from redismetrics.store.unreadable import read_readable

from .aggregate import Row
from .arguments import check_limit, check_metric_name, check_tag_key
from .context import QueryContext


def definitions(context: QueryContext) -> Operation[dict[str, Definition]]:
    """Return the definitions of all metrics, in the order in which they were first recorded."""
    shards = yield from context.namespace.shards()
    return (yield from catalog.catalogue(context.namespace.name, shards))


def series_tags(
    context: QueryContext, names: list[str]
) -> Operation[dict[str, dict[int, dict[str, str]]]]:
    """Return the tags of the series of these metrics, by metric and id.

    Metrics that cannot be read are left out.
    """
    shards = yield from context.namespace.shards()

    def read(some: list[str]) -> Operation[list[tuple[str, dict[int, dict[str, str]]]]]:
        shard_of = [keys.shard_of(name, shards) for name in some]
        found = yield from gather(
            [
                catalog.describe(context.namespace.name, shard, name)
                for shard, name in zip(shard_of, some, strict=True)
            ]
        )
        return [(name, each.series) for name, each in zip(some, found, strict=True)]

    return dict((yield from read_readable(names, read)))


def list_metrics(context: QueryContext) -> Operation[list[Row]]:
    """Return all metrics by name.

    The keys are name, type, unit, help, series, last_seen (aware UTC) and options (a dict).
    """
    namespace = context.namespace
    definitions = yield from catalog.catalogue(namespace.name, (yield from namespace.shards()))
    config = yield from namespace.config()
    found = yield from stats.readable_activity(namespace.name, config, list(definitions))
    return [
        {
            "name": name,
            "type": definition.type,
            "unit": definition.unit,
            "help": definition.help,
            "series": found[name].series,
            "last_seen": to_datetime(found[name].last_ms),
            "options": definition.options.shown(),
        }
        for name, definition in sorted(definitions.items())
        if name in found
    ]


def series_count(context: QueryContext, name: str | None = None) -> Operation[int]:
    """Return the number of series of a metric, or of all metrics."""
    if name is not None:
        check_metric_name(name)

    def read() -> Operation[int]:
        namespace = context.namespace
        config = yield from namespace.config()
        if name is None:
            names = list((yield from catalog.catalogue(namespace.name, config.shards)))
            found = yield from stats.readable_activity(namespace.name, config, names)
        else:
            found = yield from stats.activity(namespace.name, config, [name])
        return sum(each.series for each in found.values())

    return read()


def cardinality(context: QueryContext, limit: int) -> Operation[list[Row]]:
    """Return the metrics with the most series, and the number of values of each of their tags.

    Returns at most *limit* metrics, and as many tags of each, largest first.
    """
    check_limit(limit, 1)

    def read() -> Operation[list[Row]]:
        namespace = context.namespace.name
        shards = yield from context.namespace.shards()
        definitions = yield from catalog.catalogue(namespace, shards)

        def count(names: list[str]) -> Operation[list[tuple[str, int]]]:
            return list((yield from catalog.series_counts(namespace, shards, names)).items())

        def describe(names: list[str]) -> Operation[list[Row]]:
            rows = []
            for name in names:
                series = yield from catalog.series(namespace, keys.shard_of(name, shards), name)
                rows.append(
                    {
                        "name": name,
                        "series": counts[name],
                        "overflow": OVERFLOW_TAGS in series,
                        "tags": _values_by_tag(series),
                    }
                )
            return rows

        counts = dict((yield from read_readable(list(definitions), count)))
        most = sorted(counts, key=lambda name: (-counts[name], name))[:limit]
        return (yield from read_readable(most, describe))

    return read()


def _values_by_tag(series: Iterable[dict[str, str]]) -> dict[str, int]:
    """Return the number of values of each tag, largest first."""
    values: dict[str, set[str]] = {}
    for tags in series:
        for key, value in tags.items():
            if key not in OVERFLOW_TAGS and key != LABELS_TAG:
                values.setdefault(key, set()).add(value)
    counts = {key: len(each) for key, each in values.items()}
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))


def tag_values(context: QueryContext, name: str, key: str) -> Operation[list[str]]:
    """Return the values of one tag over all series of a metric, sorted."""
    check_metric_name(name)
    check_tag_key(key)

    def read() -> Operation[list[str]]:
        shards = yield from context.namespace.shards()
        shard = keys.shard_of(name, shards)
        series = yield from catalog.series(context.namespace.name, shard, name)
        return sorted({tags[key] for tags in series if key in tags})

    return read()
