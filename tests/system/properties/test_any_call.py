"""Any arguments: invalid ones raise one of our errors and record nothing, valid ones count once."""

import contextlib
import itertools
import math
import uuid
from collections import Counter as Tally
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from redismetrics import Gauge, InvalidMetric, InvalidQuery, Metrics
from redismetrics.export import export
from redismetrics.model.validation import NAME_PATTERN, clean_tags
from tests.fixtures.servers import Server

NEVER = 3_600.0
_numbers = itertools.count(1)


class Colour(Enum):
    RED = "red"
    NESTED = (1, 2)


class Odd:
    """An object without hash, comparison and length, and with a long repr."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise TypeError("not to be compared")

    def __repr__(self) -> str:
        return "odd" * 10_000


class Mute:
    """Neither its repr, nor its text, nor its number can be had."""

    def __repr__(self) -> str:
        raise ZeroDivisionError("no repr")

    def __float__(self) -> float:
        raise LookupError("no number")


class MuteNumber(int):
    """A number without a text."""

    def __repr__(self) -> str:
        raise ZeroDivisionError("no repr")


# Values whose repr raises, which `sampled_from` can't show.
HARD_TO_SHOW = {
    "large": 10**5_000,
    "small": -(10**5_000),
    "mute": Mute(),
    "mute number": MuteNumber(3),
}
TEXT = st.text(st.characters(codec=None), max_size=8)  # including surrogates
SCALARS = (
    st.sampled_from(list(HARD_TO_SHOW)).map(lambda key: HARD_TO_SHOW[key])
    | st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**62, 2**80)
    | st.floats()
    | TEXT
    | st.binary(max_size=4)
    | st.sampled_from(
        [
            Colour.RED,
            Colour.NESTED,
            Colour,
            Odd(),
            object(),
            1j,
            Decimal("1.5"),
            Decimal("nan"),
            Decimal("1e999"),
            Fraction(1, 3),
            10**400,
            -(10**400),
            "x" * 5_000,
            "a" * 201,
            "",
            "_",
            "9a",
            "a b",
            "a\n",
            "a\x00",
            "é",
            np.float32(1.5),
            np.int64(3),
            np.float64("nan"),
            np.array([1.0]),
            np.array([1.0, 2.0]),
            np.bool_(True),
            uuid.UUID(int=5),
            range(3),
            print,
            datetime(2024, 1, 1),  # noqa: DTZ001
            datetime(2024, 1, 1, tzinfo=UTC),
            datetime.max.replace(tzinfo=UTC),
            datetime.min.replace(tzinfo=UTC),
            memoryview(b"12"),
            np.complex128(1 + 2j),
            np.timedelta64(10**9, "ns"),
            np.datetime64("2024-01-01"),
            np.array(5, "m8[s]"),
            np.array("5"),
            timedelta(hours=1),
            timedelta(-1),
            timedelta.max,
            -0.0,
            5e-324,
            1.7976931348623157e308,
        ]
    )
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(TEXT, inner, max_size=3)
    ),
    max_leaves=5,
)
NAMES = st.sampled_from(
    ["jobs", "a.b-c/d:e_1", "_", "Z" * 200, "queue_depth", "log", "x:log", "live", "jobs:state"]
)
TAGS = st.none() | st.dictionaries(
    st.sampled_from(["n", "shop", "le", "a.b", "__name__", "Z" * 200]),
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(-1, 1)
    | st.text(max_size=20)
    | st.sampled_from([Colour.RED, "\x00"]),
    max_size=4,
)
METHODS = ("increment", "gauge", "histogram", "record")
EXEMPLARS = st.none() | st.dictionaries(st.sampled_from(["trace_id", "n", "a.b"]), ANYTHING)


@pytest.fixture
def fresh(server: Server) -> Iterator[Any]:
    """Return a function that makes a client with its own namespace."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(
            Metrics(
                server.url, namespace=f"any-call-{next(_numbers)}", flush_interval=NEVER, **options
            )
        )


CALLS = st.lists(
    st.tuples(
        st.sampled_from(METHODS),
        NAMES | ANYTHING,
        st.integers(0, 5) | ANYTHING,
        st.fixed_dictionaries(
            {}, optional={"tags": TAGS | ANYTHING, "metadata": ANYTHING, "timestamp": ANYTHING}
        ),
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.slow
@given(
    calls=st.lists(
        st.tuples(st.sampled_from(["increment", "histogram", "record"]), ANYTHING, EXEMPLARS),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=100)
def test_an_exemplar_raises_our_error_or_is_stored(server: Server, calls: list[Any]) -> None:
    with Metrics(
        server.url, namespace=f"any-call-{next(_numbers)}", flush_interval=NEVER
    ) as metrics:
        expected: dict[str, dict[str, str]] = {}
        for method, odd, exemplar in calls:
            for given_exemplar in (odd, exemplar):
                with contextlib.suppress(InvalidMetric):
                    getattr(metrics, method)(method, 1.5, exemplar=given_exemplar)
                    if given_exemplar is not None:
                        expected[method] = clean_tags(given_exemplar)
        metrics.flush()
        assert metrics.stats()["dropped"] == {}
        for method in METHODS:
            found = [each.labels for each in metrics.exemplars(method)]
            assert found == ([expected[method]] if method in expected else [])


@pytest.mark.slow
@given(values=st.lists(st.tuples(ANYTHING | TAGS, TAGS | ANYTHING), min_size=1, max_size=6))
@settings(max_examples=100)
def test_labels_and_states_raise_our_error_or_are_shown(server: Server, values: list[Any]) -> None:
    with Metrics(
        server.url, namespace=f"any-call-{next(_numbers)}", flush_interval=NEVER
    ) as metrics:
        shown: dict[tuple[str, ...], dict[str, str]] = {}
        for value, tags in values:
            for kind in ("info", "stateset"):
                with contextlib.suppress(InvalidMetric):
                    metrics.record(kind, value, type=kind, tags=tags)  # type: ignore[arg-type]
                    about = {key: text for key, text in clean_tags(tags).items() if text}
                    labels = clean_tags(value) if kind == "info" else {"stateset": value}
                    shown[kind, *map(str, sorted(about.items()))] = {**about, **labels}
        metrics.flush()
        assert metrics.stats()["dropped"] == {}
        found = [each.tags for family in metrics.live() for each in family.series if each.value]
        assert sorted(map(sorted, map(dict.items, found))) == sorted(
            map(sorted, map(dict.items, shown.values()))
        )
        page = export(metrics=metrics, openmetrics=True)
        assert len(list(parse_openmetrics(page))) == len({kind for kind, *_ in shown})


@pytest.mark.slow
@given(calls=CALLS)
@settings(max_examples=150)
def test_a_call_raises_our_error_or_counts_once(server: Server, calls: list[Any]) -> None:
    accepted: Tally[str] = Tally()
    with Metrics(
        server.url, namespace=f"any-call-{next(_numbers)}", flush_interval=NEVER
    ) as metrics:
        for method, name, value, options in calls:
            before = metrics.stats()["recorded"]
            caught: Exception | None = None
            try:
                getattr(metrics, method)(name, value, **options)
            except InvalidMetric as error:
                caught = error
                assert metrics.stats()["recorded"] == before
            else:
                assert NAME_PATTERN.match(name)
                accepted[str(name)] += 1
                assert metrics.stats()["recorded"] == before + 1
            assert len(str(caught)) < 1_000
        with contextlib.suppress(InvalidMetric):  # of another type than in Redis
            metrics.flush()
        stats = metrics.stats()
        assert (stats["recorded"], stats["pending"]) == (accepted.total(), 0)
        assert set(stats["dropped"]) <= {"too_old", "in_future", "type_mismatch"}
        assert stats["stored"] == accepted.total() - sum(stats["dropped"].values())
        counts = {name: metrics.query(name, aggregation="count") for name in accepted}
        assert sum(counts.values()) == stats["stored"]
        assert all(count <= accepted[name] for name, count in counts.items())


@given(calls=CALLS)
@settings(max_examples=75)
def test_with_on_invalid_drop_only_a_wrong_name_or_type_raises(
    server: Server, calls: list[Any]
) -> None:
    options_ = {
        "namespace": f"any-call-{next(_numbers)}",
        "flush_interval": NEVER,
        "on_invalid": "drop",
    }
    with Metrics(server.url, **options_) as metrics:  # type: ignore[arg-type]
        done = 0
        for method, name, value, options in calls:
            try:
                getattr(metrics, method)(name, value, **options)
                done += 1
            except InvalidMetric:
                pass
        with contextlib.suppress(InvalidMetric):
            metrics.flush()
        stats = metrics.stats()
        assert stats["recorded"] == done == stats["stored"] + sum(stats["dropped"].values())


@pytest.mark.slow
@given(
    samples=st.lists(
        st.tuples(
            st.sampled_from(["counter", "gauge", "histogram"]),
            NAMES,
            TAGS,
            st.integers(0, 10**6) | st.floats(0, 1e6).map(lambda value: round(value, 3)),
            st.none() | st.integers(0, 7_000),
        ),
        min_size=1,
        max_size=30,
    ),
)
@settings(max_examples=100)
def test_valid_input_is_counted_exactly_by_its_tags(server: Server, samples: list[Any]) -> None:
    """Any name, tags and times; each type has its own metric names."""
    methods = {"counter": "increment", "gauge": "gauge", "histogram": "histogram"}
    now = datetime.now(UTC)
    expected: dict[str, dict[frozenset[tuple[str, str]], list[float]]] = {}
    with Metrics(
        server.url, namespace=f"any-call-{next(_numbers)}", flush_interval=NEVER
    ) as metrics:
        for kind, name, tags, value, ago in samples:
            full = f"{kind[0]}{name}"[:200]
            at = None if ago is None else now - timedelta(seconds=ago)
            getattr(metrics, methods[kind])(full, value, tags=tags, timestamp=at)
            series = frozenset(clean_tags(tags).items())
            expected.setdefault(full, {}).setdefault(series, []).append(float(value))
        metrics.flush()
        assert metrics.stats()["dropped"] == {}
        for full, by_series in expected.items():
            keys = sorted({key for series in by_series for key, _ in series})
            rows = metrics.query(full, aggregation="count", group_by=keys) if keys else None
            if rows is not None:
                found = {
                    frozenset((key, row[key]) for key in keys if row[key] is not None): row["count"]
                    for row in rows
                }
                assert found == {series: len(values) for series, values in by_series.items()}
            every = list(itertools.chain.from_iterable(by_series.values()))
            assert metrics.query(full, aggregation="count") == len(every)
            assert math.isclose(
                metrics.query(full, aggregation="sum"),
                math.fsum(every),
                rel_tol=1e-12,
                abs_tol=1e-9,
            )


@pytest.fixture(scope="module")
def asked(server: Server) -> Iterator[Metrics]:
    with Metrics(server.url, namespace="any-question", flush_interval=NEVER) as metrics:
        for number in range(20):
            metrics.increment("jobs", number, tags={"n": number % 3})
            metrics.histogram("took", number / 3, tags={"n": number % 3})
        metrics.flush()
        yield metrics


WINDOWS = (
    st.sampled_from(["last_hour", "15m", "0m", "1e9d", "99999999999999999999d", None]) | ANYTHING
)
GROUPS = st.sampled_from(["n", ("n", "x"), ("n", "n"), (), "count"]) | ANYTHING
AGGREGATIONS = (
    st.sampled_from(
        ["count", "p95", "p99.9", "p101", "p-1", "pnan", "p1e9", "median", "rate", None]
    )
    | ANYTHING
)
INTERVALS = st.sampled_from(["minute", "5m", "1s", "0m", "-5m", "99999999999999d", "5"]) | ANYTHING
OPTIONS: dict[str, dict[str, Any]] = {
    "query": {
        "aggregation": AGGREGATIONS,
        "group_by": GROUPS,
        "window": WINDOWS,
        "tags": TAGS | ANYTHING,
    },
    "time_series": {
        "interval": INTERVALS,
        "aggregation": AGGREGATIONS,
        "window": WINDOWS,
        "group_by": GROUPS,
        "tags": TAGS | ANYTHING,
        "fill": ANYTHING,
    },
    "rollup": {
        "group_by": GROUPS,
        "aggregations": AGGREGATIONS,
        "window": WINDOWS,
        "tags": TAGS,
        "keys": ANYTHING,
    },
    "digest": {"window": WINDOWS, "tags": TAGS | ANYTHING},
}


@pytest.mark.parametrize("method", list(OPTIONS))
@given(data=st.data())
@settings(max_examples=120)
def test_a_query_returns_or_raises_our_error(
    asked: Metrics, method: str, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(["jobs", "took", "nobody"]) | ANYTHING)
    options = data.draw(st.fixed_dictionaries({}, optional=OPTIONS[method]))
    caught: Exception | None = None
    try:
        getattr(asked, method)(name, **options)
    except (InvalidQuery, InvalidMetric) as error:
        caught = error
    assert len(str(caught)) < 1_000


@given(
    name=ANYTHING,
    since=ANYTHING,
    until=ANYTHING,
    limit=ANYTHING | st.integers(-1, 5),
    tags=TAGS | ANYTHING,
    kind=ANYTHING,
)
@settings(max_examples=120)
def test_get_metrics_returns_or_raises_our_error(
    asked: Metrics, name: Any, since: Any, until: Any, limit: Any, tags: Any, kind: Any
) -> None:
    for options in (
        {"since": since, "until": until},
        {"limit": limit},
        {"name": name, "tags": tags},
        {"type": kind},
    ):
        with contextlib.suppress(InvalidQuery, InvalidMetric):
            asked.get_metrics(**options)
    with contextlib.suppress(InvalidQuery, InvalidMetric):
        asked.tag_values(name, kind)
    with contextlib.suppress(InvalidQuery, InvalidMetric):
        asked.subscribe(name, tags=tags, types=kind, every=limit).close()


@given(
    name=NAMES | ANYTHING,
    tags=TAGS | ANYTHING,
    value=ANYTHING,
    options=st.dictionaries(
        st.sampled_from(["help", "unit", "buckets", "tag_keys"]), ANYTHING, max_size=3
    ),
)
@settings(max_examples=120)
def test_instruments_and_declarations_raise_our_error_or_count_once(
    name: Any, tags: Any, value: Any, options: dict[str, Any]
) -> None:
    with Metrics("none://") as metrics:
        for call in (
            lambda: Gauge(name, tags, metrics=metrics).set(value),
            lambda: Gauge("depth", metrics=metrics).add(value),
            lambda: Gauge("depth", tags, metrics=metrics).with_tags(tags).set(1),
            lambda: metrics.declare(name, "histogram", **options),
            lambda: metrics.declare("took", value),
            lambda: metrics.measure(name, None if callable(value) else value, tags=tags),
        ):
            with contextlib.suppress(InvalidMetric):
                call()
