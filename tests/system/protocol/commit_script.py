"""commit.lua: seals blocks, replaces coarser slots, and folds changes, or does nothing."""

from tests.system.protocol.messages import Commit, Fold
from tests.system.protocol.rules import Rule
from tests.system.protocol.samples import MAIN, Rows
from tests.system.protocol.slots import (
    COARSER,
    FINER,
    MARGIN,
    REPLAY,
    RETENTION,
    WIDTH,
    Cell,
    Key,
    key_of,
    past,
)
from tests.system.protocol.store import Store


def commit(store: Store, commit: Commit) -> bool:
    """Apply all of *commit*, or nothing if the data is not as the worker read it."""
    node = store.primary
    node.expire(store.time)
    if not _is_as_seen(store, commit):
        return False
    kept = commit.kept & node.cells.keys()
    for cell, rows in commit.rows.items():
        node.cells.setdefault(key_of(cell), {})[cell] = rows
    if commit.built is not None:
        _merge(store, commit.built, commit.segments)
    if commit.blocks:
        node.sealed = commit.blocks[-1].clock
        keep = min(node.sealed, node.clock - REPLAY * 1000)
        node.log = {member: block for member, block in node.log.items() if block.clock > keep}
        node.dropped |= set(commit.dropped)
    for resolution, slot, chunk in commit.mark:
        node.due[resolution, slot, chunk] = slot + WIDTH[resolution]

    written = {key_of(cell) for cell in commit.rows}
    if commit.built is not None:
        written |= {(resolution, commit.built[1]) for resolution in commit.segments}
    if Rule.PERSIST_AT_MARK in store.rules:
        written |= {(FINER[resolution], slot) for resolution, slot, _ in commit.mark}
    for key in written - kept:
        _set_expiry(store, key, commit.built)
    store.new_version(MAIN)
    node.expire(store.time)
    return True


def _is_as_seen(store: Store, commit: Commit) -> bool:
    node = store.primary
    if node.version != commit.version:
        return False
    if commit.blocks and Rule.SAME_BLOCKS in store.rules:
        between = [
            block.stamp
            for block in node.log_after(node.sealed)
            if block.clock <= commit.blocks[-1].clock
        ]
        if between != [block.stamp for block in commit.blocks]:
            return False
    minutes = {key_of(cell) for cell in commit.rows if cell[0] == "minute"}
    return Rule.AGE_AT_COMMIT not in store.rules or not any(
        past(key, store.time) for key in minutes
    )


def _merge(store: Store, built: Cell, segments: dict[str, dict[int, Rows]]) -> None:
    """Replace the fields of the slots inside *built* by one segment."""
    node, (_, slot, chunk) = store.primary, built
    node.due.pop(built, None)
    for resolution, segment in segments.items():
        inside = node.cells.get((resolution, slot), {})
        node.cells[resolution, slot] = {
            cell: rows for cell, rows in inside.items() if cell[2] != chunk
        }
        node.segments.setdefault((resolution, slot), {})[chunk] = segment


def _set_expiry(store: Store, key: Key, built: Cell | None) -> None:
    """Set a key's expiry; it persists while a coarser slot over it is due, of any chunk."""
    node, rules, (resolution, slot) = store.primary, store.rules, key
    if key not in node.cells and key not in node.segments:
        return
    waiting = resolution != "raw" and any(
        cell[:2] == (COARSER[resolution], slot) for cell in node.due
    )
    if (
        Rule.PERSIST_ALL_CHUNKS not in rules
        and built is not None
        and built[:2] == (COARSER[resolution], slot)
    ):
        waiting = False
    if waiting and Rule.PERSIST in rules:
        node.expiry[key] = None
    else:
        margin = MARGIN if Rule.MARGIN in rules else 0
        node.expiry[key] = slot + WIDTH[COARSER[resolution]] + RETENTION[resolution] + margin


def fold(store: Store, fold: Fold) -> bool:
    """Put in place what a worker has folded, if its newest change still waits.

    If a script has folded some of the changes meanwhile, the worker's fields contain them too.
    """
    metric, rules = store.primary.metrics[fold.metric], store.rules
    last = fold.first + len(fold.changes) - 1 - metric.first
    fits = Rule.SAME_VERSION not in rules or metric.version == fold.version
    if Rule.NONE_OLDER in rules:
        fits = fits and metric.first >= fold.first
    if Rule.SAME_LAST in rules:
        fits = (
            fits
            and 0 <= last < len(metric.changes)
            and metric.changes[last].stamp == fold.changes[-1].stamp
        )
    if not fits:
        store.refused_folds += 1
        return False
    store.worker_folds += 1
    metric.fold(fold.fields, min(max(last + 1, 0), len(metric.changes)))
    return True
