"""What a question may answer, the dumb way: from the list of all samples, knowing nothing of levels but how long they last."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from tests.system.protocol.protocol import BUDGET, FINER, HOUR, MINUTE, WIDTH, Sample, align, past


@dataclass(frozen=True)
class Oracle:
    """The samples recorded *before* a question began must be in its answer, each once; those since then may be.

    Counted as dropped means: not in an answer when it was so before; perhaps when it came to be since.
    """

    before: dict[int, Sample]
    dropped_before: frozenset[int]
    after: dict[int, Sample]
    dropped_after: frozenset[int]
    time: int

    def judge(
        self, windows: list[tuple[int, int]], answer: list[list[tuple[int, str]]]
    ) -> Iterator[str]:
        """Tell what is wrong with an *answer*: for each window the ids of its samples, and the tags they are found under."""
        windows_of: defaultdict[int, list[int]] = defaultdict(list)
        for number, found in enumerate(answer):
            for known, tags in found:
                windows_of[known].append(number)
                if known not in self.after or known in self.dropped_before:
                    yield f"#{known} was never recorded, or is counted as dropped"
                elif self.after[known].tags != tags:
                    yield f"{self.after[known]} is read as {tags}"
        together = Counter(
            (sample.tags, align(sample.time, MINUTE)) for sample in self.after.values()
        )
        for sample in self.after.values():
            few = together[sample.tags, align(sample.time, MINUTE)] <= BUDGET
            allowed = {_window(time, windows) for time in self._stands_for(sample, few)}
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

    def _stands_for(self, sample: Sample, few: bool) -> Iterator[int]:
        """The times that may stand for a sample's: its own, and the starts of slots of which nothing finer is kept."""
        yield sample.time
        if not few or past(("raw", align(sample.time, HOUR)), self.time):
            yield align(sample.time, MINUTE)
        for level in ("hour", "day"):
            slot = align(sample.time, WIDTH[level])
            if past((FINER[level], slot), self.time):
                yield slot


def _window(time: int, windows: list[tuple[int, int]]) -> int | None:
    return next(
        (number for number, (since, until) in enumerate(windows) if since <= time < until), None
    )
