"""The data of the PromQL benchmark: for Prometheus as text, and older hours for Redis."""

import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench_query import Filled
from benchmarks.common import make_due
from redismetrics.columnar import arrays, rollup_codec, rollup_table, summaries
from redismetrics.columnar.rollup_table import GroupedPoints, Table
from redismetrics.columnar.samples import Samples
from redismetrics.model.definition import check_buckets
from redismetrics.model.time import DAY, HOUR, SECOND, slot_of
from redismetrics.store import due_slot, keys
from redismetrics.store.due_slot import DueSlot

# Prometheus scrapes this often.
SCRAPE = 15 * SECOND
# What it compacts blocks to if it keeps two months.
BLOCK = 54 * HOUR


def labels_of(tags: dict[str, str]) -> str:
    return ",".join(f'{key}="{value}"' for key, value in tags.items())


class OpenMetrics:
    """Writes what Prometheus would have scraped every 15 s until *until* (ms), a file per block."""

    def __init__(self, folder: Path, until: int) -> None:
        self.folder, self.until = folder, until
        self._files: dict[int, TextIO] = {}

    def write(self, block: int, lines: Iterable[str]) -> None:
        if block not in self._files:
            self._files[block] = (self.folder / f"{block}.txt").open("w")
        self._files[block].writelines(lines)

    def close(self) -> list[Path]:
        """Return the files."""
        for file in self._files.values():
            file.write("# EOF\n")
            file.close()
        return [Path(file.name) for file in self._files.values()]

    def counters(self, filled: Filled, older: list[Samples]) -> None:
        """Write the running total of each series of a counter."""
        name = filled.load.name
        found = _joined([*older, filled.since(0)])
        first = slot_of(int(found.time.min()), SCRAPE)
        amounts = found.value * found.weight
        for number, tags in enumerate(filled.load.tags):
            rows = found.series == number
            self._line(f"{name}_total{{{labels_of(tags)}}}", found.time[rows], amounts[rows], first)

    def histograms(self, filled: Filled) -> None:
        """Write the buckets of each series of a histogram."""
        name, bounds = filled.load.name, check_buckets(None, "")
        found = filled.since(0)
        first = slot_of(int(found.time.min()), SCRAPE)
        for number, tags in enumerate(filled.load.tags):
            rows = found.series == number
            time, value = found.time[rows], found.value[rows]
            for bound in (*bounds, float("inf")):
                text = "+Inf" if bound == float("inf") else str(bound)
                head = f'{name}_bucket{{{labels_of(tags)},le="{text}"}}'
                within = (value <= bound).astype(np.float64)
                self._line(head, time, within, first)

    def _line(self, head: str, time: NDArray[Any], amounts: NDArray[Any], first: int) -> None:
        count = (self.until - first) // SCRAPE
        # What is recorded at the very time of a scrape is in it.
        slot = np.clip(-((first - time) // SCRAPE) - 1, 0, count)
        totals = np.cumsum(np.bincount(slot, amounts, count + 1)[:count]).astype(int).tolist()
        begin = 0
        while begin < count:
            # The first scrape is one interval after *first*.
            block = (first + SCRAPE * (begin + 1)) // BLOCK
            end = min(count, ((block + 1) * BLOCK - first - 1) // SCRAPE)
            at = first // SECOND + 15 * (begin + 1)
            self.write(
                block,
                (
                    f"{head} {total} {at + 15 * number}\n"
                    for number, total in enumerate(totals[begin:end])
                ),
            )
            begin = end


def make_blocks(
    folder: Path, until: int, counters: list[tuple[Filled, list[Samples]]], histogram: Filled
) -> None:
    """Make Prometheus' blocks of the counters, each with its older samples, and the histogram."""
    page = OpenMetrics(folder, until)
    for filled, older in counters:
        page.counters(filled, older)
    page.histograms(histogram)
    command = ["promtool", "tsdb", "create-blocks-from", f"--max-block-duration={BLOCK // HOUR}h"]
    for text in page.close():
        command_of_file = [*command, "openmetrics", str(text), str(folder / "data")]
        subprocess.run(command_of_file, check=True, capture_output=True)
        text.unlink()


def _joined(parts: list[Samples]) -> Samples:
    columns = ("series", "time", "value", "weight", "flags")
    return Samples(*(np.concatenate([getattr(part, each) for part in parts]) for each in columns))


def older_hours(filled: Filled, days: int) -> list[Samples]:
    """Store *days* of hours before those of *filled*, as downsampling leaves them; return samples.

    The exact samples of these days have ended by their retention; long ranges do not read minutes.
    """
    client, metric = filled.client, filled.metric
    hours = next(each for each in metric.retention.resolutions if each.name == "hour")
    first = slot_of(int(filled.since(0).time.min()), HOUR)
    kept = []
    for start in range(first - days * DAY, first, HOUR):
        samples = filled.load.draw(start, start + HOUR)
        kept.append(samples)
        packed = rollup_codec.pack_table(hour_table(samples, start, hours.points))
        span = slot_of(start, hours.partition)
        client.hset(metric.data("hour", span), keys.cell_field(start, 0), packed)
        client.hincrby(metric.worked.held, keys.data_name("hour", span), len(packed))
        # As the commit that writes an hour does.
        for name, width in due_slot.coarser(metric.retention, hours):
            slot = DueSlot(name, slot_of(start, width), 0)
            client.hset(metric.worked.due, slot.field, slot.slot_ms + width)
            member = slot.pending_member(metric.name)
            client.zadd(keys.pending(metric.namespace, 0), {member: slot.slot_ms + width})
    # Queries begin to look at the oldest slot.
    client.hset(metric.worked.state, "oldest", (first - days * DAY) // SECOND)
    make_due(client, metric, filled.until)
    return kept


def hour_table(samples: Samples, start: int, points: int) -> Table:
    """Return a row for each series. Series have the ids in which they were first recorded."""
    series, group = arrays.numbered(samples.series)
    rows = summaries.of_points(samples.value, samples.weight, samples.time)
    exact = np.ones(len(samples), np.bool_)
    grouped = GroupedPoints(group, samples.value, samples.weight, exact)
    slot = np.full(len(series), start)
    return rollup_table.merge(slot, series, group, rows, grouped, budget=points)


def total(result: Any) -> float:
    """Return the sum of all values of a result of the HTTP API."""
    return sum(float(value) for each in result for value in _values(each))


def _values(each: dict[str, Any]) -> Iterator[str]:
    for _, value in each.get("values", [each["value"]] if "value" in each else []):
        yield value
