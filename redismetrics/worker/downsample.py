"""Make coarse slots of finer ones."""

from dataclasses import dataclass

from redismetrics.columnar import rollup_codec
from redismetrics.columnar.rollup_codec import NOTHING, read_samples, read_table
from redismetrics.columnar.rollup_table import Table
from redismetrics.columnar.samples import Samples
from redismetrics.model.retention import MARGIN, Resolution
from redismetrics.model.time import SECOND, slot_of
from redismetrics.store import keys
from redismetrics.store.driver import Command, Operation
from redismetrics.store.keys import FOLD
from redismetrics.store.metric_keys import MetricLocation

from . import merge
from .commit import (
    CommitPlan,
    KeyWrites,
    MetricVersion,
    Outcome,
    Result,
    commit,
    read_consistent,
    read_version,
)
from .due import FOLDS, made_of, merges_due


def downsample(metric: MetricLocation, due: str) -> Operation[Result]:
    """Do what a field of `due` asks for: make a coarse slot of one chunk anew from the finer slots inside, and fold those into a
    segment; or fold only. A slot is made only when no finer one inside is due.
    """
    name, start_s, chunk_text = due.split(" ")
    start, chunk = int(start_s) * SECOND, int(chunk_text)
    standing = yield from read_version(metric)
    if due.encode() not in standing.due:
        outcome = yield from commit(metric, standing, CommitPlan(unmarks=[due]))
        return Result(outcome)
    levels = metric.retention.levels
    if name.startswith(FOLD):
        level = next(level for level in levels if FOLD + level.name == name)
        span = slot_of(start, level.span)
        found = yield from _unfolded(
            metric,
            standing,
            level,
            span,
            chunk,
            range(start, start + level.span // FOLDS, level.width),
        )
        if found is None:
            return Result(Outcome.AGAIN)
        # What is coarser is due too: when that is made, what is left of this goes with it.
        writes = _folded(metric, standing, level, span, chunk, found, persist=True)
        return Result(
            (yield from commit(metric, standing, CommitPlan(unmarks=[due], writes=writes)))
        )

    at = next((number for number, level in enumerate(levels) if level.name == name), len(levels))
    finer, target = levels[at - 1], levels[at] if at < len(levels) else None
    inside = [
        other
        for other in map(bytes.decode, standing.due)
        if _is_inside(other, chunk, start, start + finer.span)
    ]
    if any(other.startswith(finer.name + " ") for other in inside if other != due):
        return Result(Outcome.NOTHING)
    found = yield from _unfolded(
        metric, standing, finer, start, chunk, range(start, start + finer.span, finer.width)
    )
    if found is None:
        return Result(Outcome.AGAIN)
    orders = CommitPlan(
        unmarks=[due, *(other for other in inside if other.startswith(FOLD + finer.name + " "))],
        gone=_expired_sizes(metric, found.held, standing, due),
        # Its key may be past its retention: it was kept for this, and goes now.
        writes=_folded(
            metric,
            standing,
            finer,
            start,
            chunk,
            found,
            persist=_is_due_elsewhere(standing, due, name, start),
        ),
    )
    if target is not None and not levels[-1].gone(slot_of(start, levels[-1].span), standing.now_ms):
        # A coarser slot over it is due as well, since the same commit marked both: so this key stays, also past its retention.
        write = KeyWrites(target, slot_of(start, target.span), persist=True, refuse=False)
        rows = merge.coarser(found.rows, start, target.points)
        write.fields[keys.cell_field(start, chunk)] = rollup_codec.pack_table(rows)
        orders.writes.append(write)
        orders.marks = merges_due(target, [(start, chunk)], standing)
    return Result((yield from commit(metric, standing, orders)))


@dataclass(slots=True)
class _Unfolded:
    """What one chunk holds in a span: its rows, and which slots stand beside the segment; of minutes the exact samples too."""

    rows: Table
    loose: list[int]
    samples: Samples
    loose_samples: list[int]
    held: list[bytes]


def _unfolded(
    metric: MetricLocation,
    standing: MetricVersion,
    level: Resolution,
    span: int,
    chunk: int,
    slots: range,
) -> Operation[_Unfolded | None]:
    """The segment of a span, and these of its slots where they stand beside it; None if somebody else changed them."""
    fields = [keys.segment_field(chunk), *(keys.cell_field(slot, chunk) for slot in slots)]
    commands: list[Command] = [
        ("HMGET", metric.data(level.name, span), *fields),
        ("HGETALL", metric.worked.held),
    ]
    if level is metric.retention.levels[0]:
        commands.append(("HMGET", metric.data("raw", span), *fields))
    replies = yield from read_consistent(metric, standing, commands)
    if replies is None:
        return None
    (segment, *cells), held, *raw = replies
    loose = {
        slot: read_table(data) for slot, data in zip(slots, cells, strict=True) if data is not None
    }
    found = _Unfolded(
        merge.assemble(read_table(segment), loose), list(loose), NOTHING[1], [], held[::2]
    )
    if raw:
        segment, *cells = raw[0]
        loose_samples = {
            slot: read_samples(data)
            for slot, data in zip(slots, cells, strict=True)
            if data is not None
        }
        found.loose_samples = list(loose_samples)
        if loose_samples:
            found.samples = merge.assemble_samples(read_samples(segment), loose_samples)
    return found


def _folded(
    metric: MetricLocation,
    standing: MetricVersion,
    level: Resolution,
    span: int,
    chunk: int,
    found: _Unfolded,
    *,
    persist: bool,
) -> list[KeyWrites]:
    """The segment with all that was found, in place of what stood beside it; of minutes their exact samples' as well."""
    segment = keys.segment_field(chunk)
    fold = KeyWrites(level, span, persist=persist, refuse=False)
    if found.loose:
        fold.fields[segment] = rollup_codec.pack_table(merge.fold(found.rows, level.points))
        fold.removed = [keys.cell_field(slot, chunk) for slot in found.loose]
    raw = metric.retention.raw
    if not found.loose_samples or raw.gone(span, standing.now_ms):
        return [fold]
    of_samples = KeyWrites(
        raw, span, removed=[keys.cell_field(slot, chunk) for slot in found.loose_samples]
    )
    of_samples.fields[segment] = rollup_codec.pack_samples(merge.fold_samples(found.samples))
    return [fold, of_samples]


def _is_inside(due: str, chunk: int, start: int, end: int) -> bool:
    """Is this a field of the same chunk whose slot begins in [start, end)?"""
    _, start_s, of_chunk = due.split(" ")
    return int(of_chunk) == chunk and start <= int(start_s) * SECOND < end


def _is_due_elsewhere(standing: MetricVersion, due: str, name: str, start: int) -> bool:
    """Is the same slot due for another chunk? Then the key of what is finer must stay."""
    head = f"{name} {start // SECOND} ".encode()
    return any(field_.startswith(head) and field_ != due.encode() for field_ in standing.due)


def _expired_sizes(
    metric: MetricLocation, held: list[bytes], standing: MetricVersion, made: str
) -> list[bytes]:
    """The fields of `held` that speak of what is past its retention and its margin, and waits for no slot but the one *made*."""
    retention, now_ms = metric.retention, standing.now_ms
    due = [field_.decode() for field_ in standing.due if field_ != made.encode()]
    waiting = {keys.data_name(level.name, span).encode() for level, span in made_of(metric, due)}
    by_name = {level.name: level for level in (retention.raw, *retention.levels)} | {
        "samples": retention.raw
    }
    gone = []
    for each in held:
        name, _, span = each.decode().partition(" ")
        level = by_name.get(name)
        if (
            level is not None
            and level.gone(int(span) * SECOND, now_ms - MARGIN)
            and each not in waiting
        ):
            gone.append(each)
    return gone
