"""What a query may return, worked out from the list of all samples and the retentions."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from tests.system.protocol.protocol import BUDGET, FINER, HOUR, MINUTE, WIDTH, Sample, align, past


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
