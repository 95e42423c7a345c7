"""Why a peer does the same for less: a sentence for each kind of row whose ratio is below 1.

A row that is below 1 without a sentence fails a test: either it is turned, or it is explained.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import before
from benchmarks.results import TopicResult
from benchmarks.rows import Row, few


@dataclass(frozen=True)
class Explanation:
    """*text* explains the rows of a question beside *peer* whose case has *part* in it."""

    topic: str
    peer: str
    text: str
    part: str = ""

    def explains(self, topic: str, row: Row) -> bool:
        return (self.topic, self.peer) == (topic, row.peer) and self.part in row.case


# The first that fits a row explains it.
EXPLANATIONS = (
    Explanation(
        "flush",
        "totals only",
        "it sends one number for each series and keeps no times, no samples and no percentiles, "
        "and a batch that is sent twice counts twice",
    ),
    Explanation(
        "flush",
        "one command per sample",
        "a sorted set per series keeps the values only; the script also keeps totals with buckets "
        "for Prometheus, and stores a repeated batch once",
    ),
    Explanation(
        "flush",
        "RedisTimeSeries TS.MADD",
        "it looks up one key for each sample and keeps the time and value only, in a module that "
        "many hosted servers lack",
    ),
    Explanation(
        "beside",
        "the same without queries",
        "queries and recording share two cores and the server's one thread",
    ),
    Explanation(
        "compat",
        "prometheus_client, one process",
        "it adds to a number in memory; ours does too, and appends what Redis is sent",
        "()",
    ),
    Explanation(
        "compat",
        "prometheus_client, one process",
        "it reads the memory of its process; ours sends what was counted and reads Redis",
        "page",
    ),
    Explanation(
        "compat",
        "prometheus_client, multi-process mode",
        "a few small files of one host are read faster than what all processes have in Redis",
        "page after 4 processes",
    ),
    Explanation(
        "cluster", "one node", "four processes and three nodes share two cores, too few to gain"
    ),
    Explanation(
        "network",
        "redis-py pipeline",
        "names, definitions and state come from Redis first, and a large flush is several batches, "
        "each confirmed before the next; a program that knows its keys needs one round trip",
    ),
    Explanation(
        "query",
        "numpy over sorted sets",
        "ZREVRANGE reads ten members of one key, where ours reads and decodes whole blocks, each "
        "with the samples of many series in one flush",
        part="newest 10",
    ),
    Explanation(
        "query",
        "the same without queries",
        "the queries and the flush share two cores and the server's one thread",
    ),
    Explanation(
        "rollup",
        "numpy over sorted sets",
        "ours works on each minute at every pass and keeps a digest that can be merged further; "
        "the peer reads a minute once, when it is over, and keeps three percentiles",
    ),
    Explanation(
        "storage",
        "hash per series, text",
        "a minute of ours carries the points of a digest for any percentile, or the columns of "
        "many series, where the peer keeps six numbers as text",
    ),
    Explanation(
        "stream",
        "redis-py PUBLISH",
        "samples wait for the flush, so that a recording call makes no round trip",
    ),
    Explanation(
        "promql",
        "Prometheus 2.42",
        "it has the series and their latest samples in its own process; ours fetches names, series "
        "and slots from Redis for each query, in three round trips, however long the range is",
        part="one moment",
    ),
    Explanation(
        "promql",
        "Prometheus 2.42",
        "most of the time goes into writing 61,000 numbers as text, which Python does slower",
        part="rates of 1,000 series, 1 h by",
    ),
    Explanation(
        "promql",
        "Prometheus 2.42",
        "an hour is only 240 samples of each series to it, and the work of ours for each series, "
        "its labels and matchers, is the same for an hour as for a day",
        part="1 h by",
    ),
    Explanation(
        "promql",
        "Prometheus 2.42",
        "a compiled server takes a request in one thread, where ours hands it from Python's event "
        "loop to a thread and back",
        part="over HTTP",
    ),
    Explanation(
        "promql",
        "Prometheus 2.42",
        "it interpolates in fixed buckets, where ours merges digests, which is as exact as "
        'query(aggregation="p95")',
        part="p95",
    ),
    Explanation(
        "promql",
        "Prometheus 2.42",
        "Python has to import numpy, the client and the web framework; there is no data to load",
        part="start to",
    ),
    Explanation(
        "promql",
        "Prometheus 2.42",
        "Python with its libraries takes 70 MB before the first query, and Redis holds its data in "
        "memory; Prometheus reads blocks from mapped files, which are not counted",
        part="memory",
    ),
    Explanation(
        "server_cpu",
        before.PEER,
        "the worker folds the totals in its commits, which record.lua did in each batch before",
        part="commands",
    ),
    Explanation(
        "small_metrics",
        before.PEER,
        "a pass also folds the totals, which record.lua added up in each batch before",
        part="pass, server CPU",
    ),
)


def find(topic: str, row: Row) -> Explanation | None:
    return next((each for each in EXPLANATIONS if each.explains(topic, row)), None)


def is_below(row: Row) -> bool:
    return row.ratio is not None and row.ratio < 1


def lines(topic: str, result: TopicResult) -> Iterator[str]:
    """Yield a sentence for each explanation that rows of this question need."""
    cases_of: dict[Explanation, list[str]] = {}
    for row in result.rows:
        found = find(topic, row) if is_below(row) else None
        if found is not None:
            cases_of.setdefault(found, []).append(row.case)
    for found, cases in cases_of.items():
        yield f"below 1 beside {found.peer} ({few(list(dict.fromkeys(cases)))}): {found.text}"
