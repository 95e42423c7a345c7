"""Delete metrics, series, live values or everything. Arguments are checked at the call."""

from typing import TYPE_CHECKING

from redismetrics.errors import InvalidQuery, shown
from redismetrics.model.validation import Tags, check_name
from redismetrics.queries.arguments import check_tag_filter

if TYPE_CHECKING:
    from redismetrics.columnar.process_values import Process
    from redismetrics.queries.context import QueryContext
    from redismetrics.store.driver import Operation


def delete_metric(context: "QueryContext", name: str) -> "Operation[bool]":
    """Delete one metric; return False if it does not exist."""
    from redismetrics.store import deletion

    namespace, name = context.namespace, check_name(name)

    def delete() -> "Operation[bool]":
        shards = yield from namespace.shards()
        return (yield from deletion.delete(namespace.name, shards, [name])) > 0

    return delete()


def delete_series(context: "QueryContext", name: str, tags: Tags) -> "Operation[int]":
    """Delete the series of a metric with these tags; return their number."""
    from redismetrics.worker import cleanup

    name, tag_filter = check_name(name), check_tag_filter(tags)
    if not tag_filter:
        raise InvalidQuery(
            f"delete_series() needs at least one tag, got {shown(tags)}; "
            f"use delete_metric({name!r}) to delete the whole metric"
        )
    return cleanup.delete_series(context.namespace, name, tag_filter)


def mark_process_dead(
    context: "QueryContext", pid: int, host: str | None = None
) -> "Operation[int]":
    """Drop the live values of a process; return their number."""
    from redismetrics.recording.this_process import this_place
    from redismetrics.worker import processes

    if isinstance(pid, bool) or not isinstance(pid, int) or pid <= 0:
        raise InvalidQuery(f"pid must be the id of a process, a positive integer, got {shown(pid)}")
    if host is not None and not isinstance(host, str):
        raise InvalidQuery(f"host must be a name, or None for this host, got {shown(host)}")
    place = this_place()

    def is_dead(process: "Process") -> bool:
        same_host = process.place == place if host is None else process.host == host
        return process.pid == pid and same_host

    return processes.end_live_values(context.namespace, is_dead)


def clear(context: "QueryContext", *, confirm: bool) -> "Operation[int]":
    """Delete all metrics of the namespace; return their number."""
    from redismetrics.store import deletion

    namespace = context.namespace
    if confirm is not True:
        raise InvalidQuery(
            f"clear() deletes every metric in namespace {namespace.name!r}; "
            f"pass confirm=True to proceed"
        )

    return deletion.clear(namespace.name)
