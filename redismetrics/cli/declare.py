"""The command declare: change the options of a metric."""

from typing import Annotated, Any

import typer

from redismetrics.errors import InvalidValue, no_such_metric, shown
from redismetrics.model.options import check_options
from redismetrics.model.windows import parse_duration

from . import options
from .options import Name, Namespace, Url


def declare(
    name: Name,
    exact_samples: Annotated[
        bool | None,
        typer.Option(
            "--exact-samples/--no-exact-samples",
            help="Keep every sample, with its time and metadata.",
        ),
    ] = None,
    retention: Annotated[
        str | None,
        typer.Option("--retention", help="How long exact samples are kept: 12h, 30d.", metavar="T"),
    ] = None,
    lookback: Annotated[
        str | None,
        typer.Option(
            "--lookback", help="How old PromQL's current sample may be: 90s, 5m.", metavar="T"
        ),
    ] = None,
    max_tag_values: Annotated[
        int | None,
        typer.Option("--max-tag-values", help="Maximum number of values per tag.", metavar="N"),
    ] = None,
    max_series: Annotated[
        int | None, typer.Option("--max-series", help="Maximum number of series.", metavar="N")
    ] = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Change options of an existing metric; options that are not given keep their values."""
    given: dict[str, Any] = {
        "exact_samples": exact_samples,
        "retention": _seconds(retention, "--retention"),
        "lookback": _seconds(lookback, "--lookback"),
        "max_tag_values": max_tag_values,
        "max_series": max_series,
    }
    if not any(value is not None for value in given.values()):
        raise InvalidValue(
            "declare needs an option to change, such as --retention 30d; "
            "`redismetrics list` prints the options of all metrics"
        )
    # Imported here because it loads redis.
    from redismetrics.store import catalog, keys

    with options.client(url, namespace) as metrics:
        metrics.check(name)
        internals, where = metrics.internals, metrics.settings.namespace
        shards = internals.run(internals.query_context.namespace.shards())
        shard = keys.shard_of(name, shards)
        kind = internals.run(catalog.types(where, [name])).get(name)
        if kind is None:
            raise no_such_metric(name, where)
        changed = internals.run(
            catalog.set_options(where, shard, name, check_options(kind, **given))
        )
        if changed is None:
            raise no_such_metric(name, where)
    print(f"{name}: {' '.join(f'{key}={text}' for key, text in changed.options.shown().items())}")


def _seconds(text: str | None, option: str) -> float | None:
    """Parse a duration to seconds; None if it is not given."""
    if text is None:
        return None
    width = parse_duration(text)
    if width is None:
        raise InvalidValue(f"{option} must be a duration such as 12h or 30d, got {shown(text, 80)}")
    return width / 1000
