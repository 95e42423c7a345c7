"""The commands list, tag-values, exemplars and stats: the contents of the namespace."""

from typing import Annotated, Any

import typer

from . import options
from .options import AsJson, Filter, Name, Namespace, Url
from .printing import is_for_people, print_json, print_rows, print_value, value_text


def list_metrics(as_json: AsJson = False, url: Url = None, namespace: Namespace = None) -> None:
    """List all metrics: type, unit, help, number of series, last recorded time (UTC), options."""
    with options.client(url, namespace) as metrics:
        rows = metrics.list_metrics()
    if as_json:
        print_json(rows)
    else:
        if is_for_people() and not any(row["options"] for row in rows):
            rows = [{key: row[key] for key in row if key != "options"} for row in rows]
        print_rows(rows)


def tag_values(
    name: Name,
    key: Annotated[str, typer.Argument(help="The tag.", metavar="KEY")],
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """List the values of a tag over all series of a metric."""
    with options.client(url, namespace) as metrics:
        options.check_exists(metrics, name)
        values = metrics.tag_values(name, key)
    if as_json:
        print_json(values)
    else:
        for value in values:
            print_value(value)


def exemplars(
    name: Name,
    tag: Filter = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """List the newest exemplar of each series and bucket of a metric, newest first."""
    with options.client(url, namespace) as metrics:
        options.check_exists(metrics, name)
        found = metrics.exemplars(name, tags=options.filters(tag))
    rows = [each.to_dict() for each in found]
    if as_json:
        print_json(rows)
    else:
        print_rows([{key: row[key] for key in row if key != "name"} for row in rows])


def stats(as_json: AsJson = False, url: Url = None, namespace: Namespace = None) -> None:
    """Print statistics of the namespace: stored data, writers and workers."""
    with options.client(url, namespace) as metrics:
        result = metrics.get_stats()
    if as_json:
        print_json(result)
    else:
        storage = result["storage"].items()
        print_rows([{"figure": name, "value": _text(value)} for name, value in storage])


def _text(value: Any) -> str:
    """Format one statistic: a list by its length, a mapping as ``key=value``."""
    if isinstance(value, list):
        return f"{len(value)}"
    if isinstance(value, dict):
        return " ".join(f"{key}={_text(item)}" for key, item in value.items())
    return value_text(value)
