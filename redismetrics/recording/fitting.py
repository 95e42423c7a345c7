"""Decide which samples Redis accepts: those of the right type, not too old or too far ahead."""

import logging
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace

from redismetrics.columnar import block_codec, metadata_columns
from redismetrics.errors import FormatMismatch, TypeMismatch
from redismetrics.model.definition import Definition
from redismetrics.store import catalog, server
from redismetrics.store.driver import Operation

from . import batch as metric_batch
from .batch import MetricBatch, convert, finish, is_outside
from .known_definitions import KnownDefinitions
from .own_values import OwnValues
from .recorder import Recorder
from .send_queue import SendQueue

log = logging.getLogger("redismetrics")

# Maximum metadata in a block of a metric that keeps its samples, in bytes of memory.
MAX_METADATA_BYTES = 4 << 20


class Fitting:
    """Converts batches to what Redis accepts; drops and counts the rest.

    Attributes:
        settings: The client's settings, with a *max_age* that the namespace allows.
        own: The values of per-process gauges.
        mismatches: The message of a `TypeMismatch` by metric, or "" once it was raised.
        offset_ms: The server's clock minus ours, at the last reply. Either clock may have been set
            since, so the server's time is read again before anything is dropped.
    """

    def __init__(self, recorder: Recorder, send_queue: SendQueue, known: KnownDefinitions) -> None:
        self._recorder, self._send_queue, self._known = recorder, send_queue, known
        self.own = OwnValues(recorder, known)
        self.settings = recorder.settings
        self.mismatches: dict[str, str] = {}
        self.offset_ms = 0.0
        # Metrics of another type in Redis whose samples are stored under another name.
        self._renamed: set[str] = set()

    def now_ms(self) -> float:
        return self._recorder.clock() * 1000

    def set_server_time(self, server_ms: float, at_ms: float | None = None) -> None:
        """Note the server's time at *at_ms* of our clock, or now."""
        self.offset_ms = server_ms - (self.now_ms() if at_ms is None else at_ms)

    def limits(self, server_ms: float | None = None) -> tuple[int, int]:
        """Return the oldest and newest time in ms that Redis accepts, as far as known."""
        now = self.now_ms() + self.offset_ms if server_ms is None else server_ms
        return (
            round(now - self.settings.max_age * 1000),
            round(now + self.settings.max_future * 1000),
        )

    def look_up(self, shard: int, found: list[MetricBatch]) -> Operation[set[str]]:
        """Look up new metrics in the catalogue, and the server's time if a batch's times seem off.

        Return the names of metrics whose definition can't be read.
        """
        unknown = [batch.name for batch in found if not self._known.is_learned(batch.name)]
        unreadable: set[str] = set()
        if unknown:
            namespace = self.settings.namespace
            known = yield from catalog.definitions(namespace, shard, unknown)
            for name in unknown:
                definition = known.get(name)
                if isinstance(definition, FormatMismatch):
                    log.error("%s: its samples are dropped: %s", name, definition)
                    unreadable.add(name)
                elif definition is not None:
                    yield from self._learn(shard, name, definition)
        limits = self.limits()
        if any(is_outside(batch, *limits) for batch in found):
            # Only a reply updates the offset, and samples that are dropped here get none.
            before = self.now_ms()
            server_ms = yield from server.now()
            self.set_server_time(server_ms, (before + self.now_ms()) / 2)
        return unreadable

    def _learn(self, shard: int, name: str, definition: Definition) -> Operation[None]:
        """Learn the definitions in Redis; first store options from `declare` that differ."""
        options, current = self._known.new_options(name), self._known.definition(name)
        if options is not None and current is not None and current.type == definition.type:
            changed = yield from catalog.set_options(self.settings.namespace, shard, name, options)
            definition = changed or definition
            # They belong to the previous epoch.
            self._known.forget_ids(name)
        self._known.learn(name, definition)

    def needs_no_look_up(self, found: list[MetricBatch]) -> bool:
        """Return whether these batches can be sent without asking Redis first."""
        limits = self.limits()
        return all(
            self._known.is_learned(batch.name) and not is_outside(batch, *limits) for batch in found
        )

    def fit_all(
        self, found: list[MetricBatch], unreadable: Collection[str] = ()
    ) -> list[MetricBatch]:
        """Return the batches that fit and are not too old; drop and count the rest."""
        limits, ready = self.limits(), []
        for batch in found:
            if batch.name in unreadable:
                self._send_queue.drop("refused", batch.samples.count, batch.name)
                continue
            current = self._known.definition(batch.name)
            fitting = batch if current is None else self.fit(batch, current)
            if fitting is not None:
                kept = self.drop_outside(fitting, *limits)
                if kept is not None:
                    kept = finish(kept)
                    is_own = kept.definition.options.per is not None
                    ready.append(self._first_part(self.own.resolve(kept) if is_own else kept))
        return ready

    def _first_part(self, batch: MetricBatch) -> MetricBatch:
        """Return what fits into one block, if the metric keeps its samples; queue the rest."""
        if not batch.definition.keeps_samples:
            return batch
        rows, metadata = len(batch.samples), metadata_columns.nbytes(batch.samples.metadata)
        most = min(block_codec.MAX_ROWS, max(rows * MAX_METADATA_BYTES // max(metadata, 1), 1))
        first, *rest = metric_batch.split_rows(batch, most)
        if rest:
            self._send_queue.put_back(rest)
        return first

    def fit(self, batch: MetricBatch, definition: Definition) -> MetricBatch | None:
        """Return the batch converted to *definition*; None if its type contradicts it."""
        if batch.name in self._renamed:
            self._rename(batch)
            return None
        if batch.definition is definition or batch.definition == definition:
            return batch
        if batch.explicit and batch.kind != definition.type:
            if batch.name in self._recorder.renames:
                self._rename(batch)
                return None
            message = f"{batch.name!r} is a {definition.type}; got a {batch.kind}"
            self._recorder.warn_once("TypeMismatch: %s", message)
            self.mismatches.setdefault(batch.name, message)
            self._send_queue.drop("type_mismatch", batch.samples.count, batch.name)
            return None
        fitting, bad = convert(batch, definition)
        self._send_queue.drop("type_mismatch", bad, batch.name)
        return fitting

    def _rename(self, batch: MetricBatch) -> None:
        """Queue a batch again under its alternative name, because Redis holds another type."""
        other = self._recorder.renames[batch.name]
        self._renamed.add(batch.name)
        self._recorder.warn_once(
            "%r has another type in Redis: the %s of this process is stored as %r",
            batch.name,
            batch.kind,
            other,
        )
        # If that name is taken as well, the batch is dropped as `type_mismatch` when it is next
        # sent.
        with suppress(TypeMismatch):
            self._recorder.declare(other, batch.definition)
        self._send_queue.put_back([replace(batch, name=other)])

    def drop_outside(
        self, batch: MetricBatch, oldest_ms: int, newest_ms: int
    ) -> MetricBatch | None:
        """Drop and count samples that are too old or too far ahead; return the rest, or None."""
        kept, old, ahead = metric_batch.drop_outside(batch, oldest_ms, newest_ms)
        if old or ahead:
            self._send_queue.drop("too_old", old, batch.name)
            self._send_queue.drop("in_future", ahead, batch.name)
            self._recorder.warn_once(
                "%s: samples older than max_age, or further ahead than max_future, "
                "by the server's clock, are dropped",
                batch.name,
            )
        return kept

    def correct(self, batch: MetricBatch, reason: str, detail: bytes) -> MetricBatch | None:
        """Correct a batch that record.lua refused; return what remains of it, or None."""
        if reason == "definition":
            # Another process created the metric between our lookup and our batch.
            definition = Definition.unpack(detail)
            self._known.learn(batch.name, definition)
            return self.fit(batch, definition)
        if reason == "unknown_series":
            # A series was deleted after we learned its id.
            self._known.forget_ids(batch.name)
            return batch
        if reason in ("corrupt", "newer_kind"):
            why = detail.decode(errors="replace")
            if reason == "newer_kind":
                why = (
                    "they change a gauge that a newer version of redismetrics records; upgrade "
                    "this process"
                )
            log.error("%s: %d samples are dropped: %s", batch.name, batch.samples.count, why)
            self._send_queue.drop("refused", batch.samples.count, batch.name)
            return None
        oldest, newest = self.limits(int(float(detail)))
        return self.drop_outside(batch, oldest + 1000, newest)
