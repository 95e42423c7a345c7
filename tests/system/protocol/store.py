"""A server with its replicas: how data is lost by failovers and restarts."""

import random

from tests.system.protocol.messages import Look
from tests.system.protocol.node import Node
from tests.system.protocol.rules import Rule, Rules
from tests.system.protocol.samples import MAIN
from tests.system.protocol.totals import TotalsRead


class Store:
    """A server, the replica that takes over at a failover, another replica, and a saved copy.

    The scripts are functions in record_script.py, commit_script.py and removal_scripts.py. Each
    runs atomically.

    Attributes:
        live: Values of processes that are gone do not count in the merge mode of the metric.
    """

    def __init__(self, rules: Rules, draw: random.Random, live: bool = True) -> None:
        self.rules = rules
        self.draw = draw
        self.live = live
        self.now = 1000
        # Of the server's clock from `now`.
        self.offset = 0
        self.failovers = 0
        self.primary = Node()
        self.replica = self.primary.copy()
        # Another replica, which readers use. It may be ahead of the one that takes over, and then
        # it changes to the history of that one.
        self.standby = self.primary.copy()
        # On disk.
        self.saved = self.primary.copy()
        # The number of failovers when the standby last followed, and how often it changed history.
        self.standby_of = self.switches = 0
        # Metric batches applied in any history: represents the server's time in microseconds.
        self.applied = 0
        # Metrics created, in any history.
        self.created = 0
        # What scripts did that they must not do.
        self.wrong: list[str] = []
        self.script_folds = self.worker_folds = self.refused_folds = 0
        # Changes that a script or a worker left in place because it did not know their kind.
        self.left = 0

    @property
    def time(self) -> int:
        return self.now + self.offset

    def node(self, replica: bool) -> Node:
        return self.standby if replica else self.primary

    def look(self, replica: bool = False) -> Look:
        node = self.node(replica)
        tags = {series: tags for tags, series in node.metrics[MAIN].series.items()}
        return Look(node.version, node.sealed, dict(node.due), self.time, tags)

    def totals(self, metric: str) -> TotalsRead:
        return self.primary.metrics[metric].read()

    def new_version(self, name: str) -> None:
        token = self.draw.random() if Rule.TOKEN in self.rules else 0.0
        metric = self.primary.metrics[name]
        metric.version = metric.version[0] + 1, token

    # -- time and failures

    def expire(self) -> None:
        for node in (self.primary, self.replica, self.standby):
            node.expire(self.time)

    def replicate(self) -> None:
        """Let one of the replicas catch up, or save the data."""
        which = self.draw.choice(("replica", "standby", "saved"))
        if which == "standby" and self.standby_of != self.failovers:
            self.switches, self.standby_of = self.switches + 1, self.failovers
        setattr(self, which, self.primary.copy())

    def fail_over(self, offset: int) -> set[int]:
        """Let the replica take over, with its own clock; return the lost samples."""
        lost = self._go_back(self.replica, offset)
        # The new server has saved its own data.
        self.saved = self.replica.copy()
        return lost

    def restart(self) -> set[int]:
        """Start again from the saved data; return the lost samples."""
        lost = self._go_back(self.saved, self.offset)
        self.replica = self.primary.copy()
        return lost

    def _go_back(self, node: Node, offset: int) -> set[int]:
        before = self.primary.recorded.keys() | self.primary.deleted
        lost = before - (node.recorded.keys() | node.deleted)
        self.primary, self.offset = node.copy(), offset
        self.failovers += 1
        self.expire()
        return lost
