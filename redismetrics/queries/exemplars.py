"""List the exemplars of a metric."""

import math
from collections.abc import Mapping

from redismetrics.exposition.exemplars import read_exemplars
from redismetrics.model.exemplar import Exemplar
from redismetrics.model.time import to_datetime
from redismetrics.model.validation import Tags, unpack_tags
from redismetrics.store import catalog, keys, server
from redismetrics.store.driver import Operation
from redismetrics.store.replies import pairs, reading, series_by_id

from .arguments import check_metric_name, check_tag_filter
from .context import QueryContext


def exemplars(context: QueryContext, name: str, tags: Tags | None) -> Operation[list[Exemplar]]:
    """Return the newest exemplar of each series and bucket, newest first."""
    check_metric_name(name)
    selected = check_tag_filter(tags)

    def read() -> Operation[list[Exemplar]]:
        namespace = context.namespace.name
        shard = keys.shard_of(name, (yield from context.namespace.shards()))
        definition = (yield from catalog.describe(namespace, shard, name)).definition
        if definition is None:
            return []
        now_ms = yield from server.now()
        stored, series = yield [
            ("HGETALL", keys.exemplars(namespace, shard, name)),
            ("HGETALL", keys.metric(namespace, shard, name).series),
        ]
        bounds = (None, *definition.buckets, math.inf) if definition.buckets else (None,)
        found = []
        with reading(f"the exemplars of {name!r}"):
            tags_by_id = series_by_id(series)
            for number, of_series in read_exemplars(tags_by_id, pairs(stored), now_ms).items():
                own = unpack_tags(tags_by_id[number])
                if not _matches(own, selected):
                    continue
                found += [
                    Exemplar(
                        name, own, each.labels, each.value, to_datetime(each.time_ms), bounds[at]
                    )
                    for at, each in of_series.items()
                    if at < len(bounds)
                ]
        return sorted(found, key=lambda exemplar: exemplar.timestamp, reverse=True)

    return read()


def _matches(tags: Mapping[str, str], selected: Mapping[str, str | None]) -> bool:
    return all(tags.get(key) == value for key, value in selected.items())
