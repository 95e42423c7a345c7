"""List metrics, their series and their tags."""

from redismetrics.errors import InvalidQuery
from redismetrics.model.time import to_datetime
from redismetrics.model.validation import OVERFLOW_TAGS, check_name
from redismetrics.store import catalog, keys, stats
from redismetrics.store.driver import Operation

from .context import QueryContext
from .question import Row, checked_name


def list_metrics(context: QueryContext) -> Operation[list[Row]]:
    """All metrics by name: name, type, unit, help, series, last_seen (aware UTC)."""
    known = yield from catalog.catalogue(
        context.namespace.name, (yield from context.namespace.shards())
    )
    standings = yield from stats.metric_stats(
        context.namespace.name, (yield from context.namespace.config()), list(known)
    )
    return [
        {
            "name": name,
            "type": definition.type,
            "unit": definition.unit,
            "help": definition.help,
            "series": standings[name].series,
            "last_seen": to_datetime(standings[name].last_ms),
        }
        for name, definition in sorted(known.items())
    ]


def series_count(context: QueryContext, name: str | None = None) -> Operation[int]:
    """How many series a metric has, or all metrics have together."""
    if name is not None:
        checked_name(check_name, name)

    def ask() -> Operation[int]:
        config = yield from context.namespace.config()
        names = (
            [name]
            if name is not None
            else list((yield from catalog.catalogue(context.namespace.name, config.shards)))
        )
        found = yield from stats.metric_stats(context.namespace.name, config, names)
        return sum(each.series for each in found.values())

    return ask()


def cardinality(context: QueryContext, limit: int) -> Operation[list[Row]]:
    """The metrics with the most series, and how many values each of their tags has; the worst first."""
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise InvalidQuery(f"limit: wanted a whole number from 1, got {limit!r:.60}")

    def ask() -> Operation[list[Row]]:
        config = yield from context.namespace.config()
        known = yield from catalog.catalogue(context.namespace.name, config.shards)
        counts = yield from catalog.series_counts(
            context.namespace.name, config.shards, list(known)
        )
        rows = []
        for name in sorted(known, key=lambda name: (-counts[name], name))[:limit]:
            found = yield from catalog.series(
                context.namespace.name, keys.shard_of(name, config.shards), name
            )
            values: dict[str, set[str]] = {}
            for tags in found:
                for key, value in tags.items():
                    values.setdefault(key, set()).add(value)
            shared = OVERFLOW_TAGS in found
            by_tag = {key: len(each) for key, each in values.items() if key not in OVERFLOW_TAGS}
            worst = dict(sorted(by_tag.items(), key=lambda each: (-each[1], each[0])))
            rows.append({"name": name, "series": counts[name], "overflow": shared, "tags": worst})
        return rows

    return ask()


def tag_values(context: QueryContext, name: str, key: str) -> Operation[list[str]]:
    """The values of one tag over all series of a metric, sorted."""
    checked_name(check_name, name)
    checked_name(lambda given: check_name(given, "tag key"), key)

    def ask() -> Operation[list[str]]:
        shards = yield from context.namespace.shards()
        found = yield from catalog.series(context.namespace.name, keys.shard_of(name, shards), name)
        return sorted({tags[key] for tags in found if key in tags})

    return ask()
