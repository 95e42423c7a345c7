"""What a query may return, and what a page may show, worked out from the list of all samples."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.system.protocol.metric import Moment
from tests.system.protocol.samples import Sample
from tests.system.protocol.slots import BUDGET, FINER, HOUR, MINUTE, WIDTH, align, past
from tests.system.protocol.totals import Row, TotalsRead

Totals = dict[str, Row]


@dataclass(frozen=True)
class Oracle:
    """Samples before and after a query.

    Those recorded *before* it began must be in its result, each once; those recorded since may be.
    A sample that was counted as dropped before must not be in the result; one dropped since may be.
    """

    before: dict[int, Sample]
    dropped_before: frozenset[int]
    after: dict[int, Sample]
    dropped_after: frozenset[int]
    time: int

    def judge(
        self, windows: list[tuple[int, int]], answer: list[list[tuple[int, str]]]
    ) -> Iterator[str]:
        """Yield what is wrong with a result: of each window, sample ids with tags."""
        windows_of: defaultdict[int, list[int]] = defaultdict(list)
        for number, found in enumerate(answer):
            for known, tags in found:
                windows_of[known].append(number)
                if known not in self.after or known in self.dropped_before:
                    yield f"#{known} was never recorded, or is counted as dropped"
                elif self.after[known].tags != tags:
                    yield f"{self.after[known]} is read as {tags}"
        crowded = Counter(
            (sample.tags, align(sample.time, MINUTE)) for sample in self.after.values()
        )
        for sample in self.after.values():
            few = crowded[sample.tags, align(sample.time, MINUTE)] <= BUDGET
            allowed = {_window(time, windows) for time in self._possible_times(sample, few)}
            numbers = windows_of[sample.id]
            if len(numbers) > 1:
                yield f"{sample} is read {len(numbers)} times"
            elif numbers and numbers[0] not in allowed:
                yield f"{sample} is read in {windows[numbers[0]]}"
            elif (
                not numbers
                and None not in allowed
                and sample.id in self.before
                and sample.id not in self.dropped_after
            ):
                yield f"{sample} is missing"

    def _possible_times(self, sample: Sample, few: bool) -> Iterator[int]:
        """Yield the times that may represent a sample: its own, and starts of coarser slots."""
        yield sample.time
        if not few or past(("raw", align(sample.time, HOUR)), self.time):
            yield align(sample.time, MINUTE)
        for resolution in ("hour", "day"):
            slot = align(sample.time, WIDTH[resolution])
            if past((FINER[resolution], slot), self.time):
                yield slot


def _window(time: int, windows: list[tuple[int, int]]) -> int | None:
    return next(
        (number for number, (since, until) in enumerate(windows) if since <= time < until), None
    )


def fits(
    page: Totals,
    before: list[Moment],
    at: int,
    after: list[Moment],
    shown: Callable[[Moment], Totals],
    *,
    incomplete: bool = False,
) -> bool:
    """Return True if *page* is what the metric was at some moment while it was read.

    Reading began with *before[at]* and ended with *after*. A series removed meanwhile may be
    missing. A reader that skipped changes shows an *incomplete* page of counters: nothing in it
    may be wrong.
    """
    pairs = enumerate(zip(before, after, strict=False))
    common = next((number for number, (a, b) in pairs if a is not b), min(len(before), len(after)))
    moments = before[at:] + after[min(at, max(common - 1, 0)) :]
    removed = frozenset[str]().union(*(moment.removed for moment in moments[1:]))
    expected = [shown(moment) for moment in moments]
    if incomplete:
        return all(
            any(tags in rows and set(row.ids) <= set(rows[tags].ids) for rows in expected)
            for tags, row in page.items()
        )
    return any(
        page == rows
        or (
            removed
            and all(rows.get(tags) == row for tags, row in page.items())
            and all(tags in page or tags in removed for tags in rows)
        )
        for rows in expected
    )


def last_set(moment: Moment) -> Totals:
    """Return what an info shows: of each first letter, what was set last and is still there."""
    shown: Totals = {}
    in_order = sorted(moment.rows.items(), key=lambda each: (each[1].time, each[1].clock))
    for tags, row in in_order:
        if row.ids:
            shown[tags[0]] = Row(0, row.ids)
    return shown


def misplaced(totals: TotalsRead, page: Totals) -> Iterator[str]:
    """Yield exemplars whose bucket, as the page shows it, does not contain them."""
    for (tags, bucket), exemplar in totals.exemplars_by_tags().items():
        if tags not in page or exemplar.id not in page[tags].ids:
            yield f"{exemplar} of bucket {bucket} of {tags}, which is {page.get(tags)}"
