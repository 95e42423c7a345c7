"""Processes that read totals: one shows a page, one copies a metric to another server."""

from tests.system.protocol.actor import Actor, Steps
from tests.system.protocol.metric import Moment
from tests.system.protocol.node import Node
from tests.system.protocol.oracle import fits, last_set, misplaced
from tests.system.protocol.rules import Rule, Rules
from tests.system.protocol.samples import INFO, MAIN
from tests.system.protocol.totals import NEWEST, OLDER, Row, TotalsRead, newest_infos


class Pager(Actor):
    """Reads the totals of a metric, on the server or a replica; the oracle judges the page."""

    def steps(self) -> Steps[None]:
        while True:
            yield from self._read(self.draw.choice(self.run.metrics))
            yield

    def _read(self, name: str) -> Steps[None]:
        store, rules = self.store, self.rules
        # A connection stays with its server.
        primary = None if self.draw.random() < 0.4 else store.primary
        version = self.draw.choice((OLDER, NEWEST, NEWEST))
        time, switches = store.time, store.switches
        moments = (primary or store.standby).metrics[name].moments
        before, at = list(moments), len(moments) - 1
        found: dict[str, TotalsRead] = {}
        for together in self._order():
            if not self.run.in_one_step and self.draw.random() < 0.3:
                yield
            read = (primary or store.standby).metrics[name].read()
            found |= dict.fromkeys(together, read)
        if primary is None and store.switches != switches and not self.run.strict:
            # A replica changed to another history between two commands, where ids may have other
            # tags.
            return
        totals = TotalsRead(
            found["base"].base,
            found["base"].first,
            found["changes"].changes,
            found["series"].series,
            found["base"].values,
            found["exemplars"].exemplars,
        )
        live = store.live and Rule.HEARTBEAT in rules
        page = totals.page(version, time, live)
        if name == INFO:
            page = newest_infos(page, all_set=Rule.NEWEST_SHOWN not in rules)
        skipped = totals.unknown(version) > 0
        self.run.pages += 1
        self.run.skipped += skipped
        if skipped and name != MAIN:
            return

        after = (primary or store.standby).metrics[name].moments
        gone: set[str] = set()
        if name == INFO:
            # Where a series was removed meanwhile, an older value may be shown, or none.
            gone = {tags[0] for moment in after[at:] for tags in moment.removed}
            page = {tags: row for tags, row in page.items() if tags not in gone}

        def shown(moment: Moment) -> dict[str, Row]:
            if name != INFO:
                return moment.page(time, store.live)
            return {tags: row for tags, row in last_set(moment).items() if tags not in gone}

        if not fits(page, before, at, after, shown, incomplete=skipped):
            expected = [shown(moment) for moment in before[at:]]
            where = "the server" if primary else "a replica"
            text = f"reads {page} of {name} on {where}, must be one of {expected} or newer"
            self.run.violated("PAGE", f"{self.name} {text}")
        if name == MAIN and not skipped:
            for wrong in misplaced(totals, page):
                self.run.violated("PAGE", f"{self.name} reads {wrong}")

    def _order(self) -> list[tuple[str, ...]]:
        """Return what is read by each command, in order."""
        order: list[tuple[str, ...]] = [("base",), ("changes",)]
        if Rule.ONE_HASH in self.rules:
            order = [("base", "changes")]
        at = len(order) if Rule.SERIES_LAST in self.rules else 0
        order.insert(at, ("series",))
        at = 0 if Rule.EXEMPLARS_FIRST in self.rules else len(order)
        order.insert(at, ("exemplars",))
        return order


class Copier(Actor):
    """Copies the totals of a metric to another server, key by key; large hashes in pieces."""

    def steps(self) -> Steps[None]:
        while True:
            yield
            if self.draw.random() < self.run.faults.copies:
                yield from self._copy(self.draw.choice(self.run.metrics))

    def _copy(self, name: str) -> Steps[None]:
        node = self.store.primary
        before = mark(node, name, self.rules)
        first, definition = node.metrics[name].read(), node.metrics[name].definition
        yield
        second = node.metrics[name].read()
        yield
        series = node.metrics[name].read().series
        yield
        if mark(node, name, self.rules) != before:
            # It is copied again later.
            return
        metric, copied = node.metrics[name], joined(first, second, series)
        page, expected = copied.page(), metric.moments[-1].page(0, False)
        self.run.copies += 1
        if page != expected:
            self.run.violated("COPY", f"{page} of {name}, must be {expected}")
        if copied.exemplars_by_tags() != metric.newest or definition != metric.declared:
            self.run.violated("COPY", f"exemplars or definition of {name}")


def mark(node: Node, name: str, rules: Rules) -> tuple[object, ...]:
    """Return what a copy compares before and after: what batches, commits and folds write."""
    metric = node.metrics[name]
    found = (metric.version, metric.last, metric.epoch, metric.definition)
    return (*found, metric.first) if Rule.FOLD_IN_MARK in rules else found


def joined(first: TotalsRead, second: TotalsRead, series: dict[str, int]) -> TotalsRead:
    """Return what is copied of a hash that was read in two pieces, and of the series."""
    values = {key: row for key, row in second.values.items() if key[1]}
    values |= {key: row for key, row in first.values.items() if not key[1]}
    return TotalsRead(first.base, 0, second.changes, series, values, second.exemplars)
