"""The channels of a subscription's selection, in one database."""

from redismetrics.store import keys

from .inbox import Interest
from .selection import Selection


class Channels:
    """The channels of *selection* in the database with number *database*.

    Channels are shared by all databases of a server, so their names contain the number.
    """

    def __init__(self, namespace: str, selection: Selection, database: int) -> None:
        self._namespace = namespace
        self._selection = selection
        self._database = database

    def interest(self) -> Interest:
        """Return what to subscribe to."""
        selection = self._selection
        if selection.patterns:
            # Redis compares every message of all namespaces with the patterns of all clients, so
            # all subscriptions use the same pattern; names are compared here.
            names = [keys.channel_pattern(self._namespace)]
        else:
            names = [
                keys.channel(self._namespace, name, self._database) for name in selection.names
            ]
        return Interest(
            frozenset(name.encode() for name in names),
            bool(selection.patterns),
            lambda channel: self.metric_of(channel) is not None,
        )

    def metric_of(self, channel: bytes) -> str | None:
        """Return the metric of a message's channel; None if it is not selected."""
        text = channel.decode("utf-8", "replace")
        name = keys.metric_of_channel(self._namespace, text, self._database)
        return name if name is not None and self._selection.has_name(name) else None
