"""The current values of all series, as the Prometheus page shows them."""

from dataclasses import replace
from typing import Any

from redismetrics.exposition.families import Family, Running
from redismetrics.exposition.live import live as live_live
from redismetrics.model.validation import check_name
from redismetrics.store import catalog, server
from redismetrics.store.driver import Operation, together
from redismetrics.store.namespace import Place

from .question import _checked


def live(place: Place, name: str | None, idle_ms: int) -> Operation[list[Family]]:
    """All metrics (or one), in the order first recorded, with the running state of their series but those idle for longer.

    A metric whose series are all idle is there with none, so that the names on a page made of it don't change.
    """
    if name is not None:
        _checked(check_name, name)

    def ask() -> Operation[list[Family]]:
        shards = yield from place.shards()
        first: list[Operation[Any]] = [server.now(), catalog.catalogue(place.namespace, shards)]
        now, known = yield from together(first)
        if name is not None:
            known = {name: known[name]} if name in known else {}
        families = yield from live_live(place.namespace, shards, known)
        return [replace(family, series=Running.of(family.series).seen_since(now - idle_ms)) for family in families]

    return ask()
