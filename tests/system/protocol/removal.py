"""Processes that remove data: a pruner with the sweep, a deleter; and one that sets options."""

from tests.system.protocol.actor import Actor, Steps
from tests.system.protocol.metric import Definition
from tests.system.protocol.removal_scripts import (
    OptionSet,
    delete_metric,
    delete_series,
    is_gone,
    prune_series,
    prune_writers,
    set_options,
    sweep_values,
)
from tests.system.protocol.rules import Rule
from tests.system.protocol.samples import MAIN, PROCESS
from tests.system.protocol.slots import nothing_kept
from tests.system.protocol.totals import NEWEST, OLDER

OPTIONS = ("exact_samples", "retention", "lookback")


class Pruner(Actor):
    """Removes series of which nothing is kept, and writers and values of processes gone."""

    def steps(self) -> Steps[None]:
        while True:
            yield from self._prune()
            yield
            yield from self._sweep()
            yield

    def _prune(self) -> Steps[None]:
        version = self.draw.choice((OLDER, NEWEST))
        look, totals = self.store.look(), self.store.totals(MAIN)
        if Rule.SEEN_IN_CHANGES not in self.rules:
            totals = totals._replace(changes=())
        idle = {
            tags: totals.series[tags]
            for tags, row in totals.page(version).items()
            if nothing_kept(row.seen, look.time)
        }
        # A change of an unknown kind may be of any series.
        if Rule.UNKNOWN_KIND_STAYS in self.rules and totals.unknown(version):
            idle = {}
        yield
        if idle:
            self.log("forgets", idle, "->", prune_series(self.store, idle, look.version))
        prune_writers(self.store)

    def _sweep(self) -> Steps[None]:
        values = self.store.totals(PROCESS).values
        gone = {
            (series, writer): row
            for (series, writer), row in values.items()
            if writer and is_gone(self.store, row)
        }
        yield
        if gone:
            self.log("sweeps", gone, "->", sweep_values(self.store, gone))


class Deleter(Actor):
    """Deletes series or a whole metric at any time."""

    def steps(self) -> Steps[None]:
        while True:
            yield
            if self.run.resting or self.draw.random() >= self.run.faults.deletions:
                continue
            name = self.draw.choice(self.run.metrics)
            metric = self.store.primary.metrics[name]
            if self.draw.random() < 0.3:
                as_read = None
                if Rule.DELETE_BY_SCRIPT not in self.rules:
                    as_read = metric.next_series, metric.epoch
                    yield
                delete_metric(self.store, name, as_read)
                self.log("deletes", name)
            elif metric.series:
                chosen = dict(self.draw.sample(sorted(metric.series.items()), 1))
                yield
                self.log("deletes", name, chosen, "->", delete_series(self.store, name, chosen))


class Declarer(Actor):
    """Sets options of a metric, in the older version or the newest."""

    def steps(self) -> Steps[None]:
        while True:
            yield
            if self.draw.random() < self.run.faults.options:
                yield from self._declare()

    def _declare(self) -> Steps[None]:
        version = self.draw.choice((OLDER, NEWEST))
        number = self.run.next_option()
        names = sorted(self.draw.sample(OPTIONS, self.draw.choice([1, 2])))
        options = dict.fromkeys(names, number)
        as_read = self.store.primary.metrics[MAIN].definition
        before = as_read or Definition(0)
        if Rule.OPTIONS_WHOLE not in self.rules:
            options = {**dict(before.options), **options}
        new = before._replace(options=tuple(sorted(options.items())))
        if version == NEWEST:
            new = new._replace(newer=number)
        elif Rule.UNKNOWN_FIELDS_KEPT not in self.rules:
            new = new._replace(newer=0)
        chosen = OptionSet(
            tuple((name, number) for name in names), number if version == NEWEST else None
        )
        yield
        done = set_options(self.store, MAIN, as_read, new, chosen)
        self.log("sets", new, "of", as_read, "->", done)
