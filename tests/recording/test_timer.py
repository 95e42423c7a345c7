"""`measure`, and the clock that times it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from redismetrics import (
    Histogram,
    Metrics,
)
from tests.recording.helpers import (
    only,
)


def test_measure_runs_a_function_and_returns_its_result(
    metrics: Metrics, ticks: Callable[[float], None]
) -> None:
    assert metrics.measure("took", lambda: [ticks(0.25), "result"][1], tags={"a": "b"}) == "result"
    sample = only(metrics, "took")
    assert (sample.value, sample.type, sample.tags) == (250, "histogram", {"a": "b"})
    assert metrics.list_metrics()[0]["unit"] == "milliseconds"


def test_measure_is_a_context_manager(metrics: Metrics, ticks: Callable[[float], None]) -> None:
    with metrics.measure("took") as timer:
        ticks(0.5)
        assert timer.elapsed == 0
    assert timer.elapsed == 500
    assert only(metrics, "took").value == 500


def test_measure_is_recorded_when_the_body_raises(
    metrics: Metrics, ticks: Callable[[float], None]
) -> None:
    def body() -> None:
        ticks(1)
        raise KeyError("k")

    with pytest.raises(KeyError):
        metrics.measure("took", body, outcome_tag="outcome")
    with pytest.raises(KeyError), metrics.measure("took", outcome_tag="outcome"):
        body()
    with pytest.raises(KeyError):
        metrics.measure("took", outcome_tag="outcome")(body)()
    with metrics.measure("took", outcome_tag="outcome"):
        pass
    rows = metrics.query("took", aggregation="count", group_by="outcome")
    assert rows == [{"outcome": "KeyError", "count": 3}, {"outcome": "ok", "count": 1}]


def test_measure_in_seconds_by_declaration(
    metrics: Metrics, ticks: Callable[[float], None]
) -> None:
    metrics.declare("took_seconds", "histogram", unit="seconds")
    metrics.measure("took_seconds", lambda: ticks(0.25))
    with Histogram("took_seconds", metrics=metrics).time() as timer:
        ticks(0.25)
    assert timer.elapsed == 0.25
    assert {sample.value for sample in metrics.query("took_seconds")} == {0.25}


def test_a_metric_whose_name_ends_in_seconds_is_measured_in_seconds(
    metrics: Metrics, ticks: Callable[[float], None]
) -> None:
    metrics.measure("took_seconds", lambda: ticks(0.25))
    # Declared without a unit.
    metrics.declare("wait_seconds", "histogram", help="Time in the queue")
    with Histogram("wait_seconds", metrics=metrics).time():
        ticks(0.25)
    metrics.measure("ms_seconds", lambda: ticks(0.25), unit="ms")
    metrics.declare("declared_seconds", "histogram", unit="milliseconds")
    metrics.measure("declared_seconds", lambda: ticks(0.25))
    found = {name: only(metrics, f"{name}_seconds").value for name in ("took", "wait")}
    assert found == {"took": 0.25, "wait": 0.25}
    found = {name: only(metrics, f"{name}_seconds").value for name in ("ms", "declared")}
    assert found == {"ms": 250.0, "declared": 250.0}


@pytest.mark.parametrize(
    ("unit", "value", "full"), [("s", 0.25, "seconds"), ("ms", 250, "milliseconds")]
)
def test_measure_in_an_explicit_unit(
    metrics: Metrics, ticks: Callable[[float], None], unit: str, value: float, full: str
) -> None:
    metrics.measure("took", lambda: ticks(0.25), unit=unit)
    assert only(metrics, "took").value == value
    assert metrics.list_metrics()[0]["unit"] == full


def test_measure_decorates_every_kind_of_function(
    metrics: Metrics, ticks: Callable[[float], None]
) -> None:
    @metrics.measure("plain")
    def plain(a: int, *, b: int) -> int:
        """Add."""
        ticks(0.001)
        return a + b

    @metrics.measure("coroutine")
    async def coroutine(a: int) -> int:
        ticks(0.002)
        await asyncio.sleep(0)
        return a

    @metrics.measure("generator")
    def generator(n: int) -> Iterator[int]:
        for number in range(n):
            ticks(0.003)
            got = yield number
            if got:
                yield got * 100
        return "done"

    @metrics.measure("agenerator")
    async def agenerator(n: int) -> AsyncIterator[int]:
        for number in range(n):
            ticks(0.004)
            yield number

    async def all_of(items: AsyncIterator[int]) -> list[int]:
        return [item async for item in items]

    assert (plain(1, b=2), plain.__name__, plain.__doc__) == (3, "plain", "Add.")
    assert asyncio.run(coroutine(5)) == 5
    assert list(generator(3)) == [0, 1, 2]
    assert asyncio.run(all_of(agenerator(3))) == [0, 1, 2]
    sent = generator(2)
    assert (next(sent), sent.send(7)) == (0, 700)
    sent.close()  # ended early: its time counts too
    assert only(metrics, "plain").value == pytest.approx(1)
    assert only(metrics, "coroutine").value == pytest.approx(2)
    assert sorted(sample.value for sample in metrics.query("generator")) == pytest.approx([3, 9])
    assert only(metrics, "agenerator").value == pytest.approx(12)


def test_an_async_generator_left_early_is_closed_at_once(
    metrics: Metrics, ticks: Callable[[float], None]
) -> None:
    closed: list[bool] = []

    @metrics.measure("took", outcome_tag="outcome")
    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                ticks(0.25)
                yield 1
        finally:
            closed.append(True)

    async def main() -> None:
        items = endless()
        assert await anext(items) == 1
        await items.aclose()
        assert closed == [True]

    asyncio.run(main())
    sample = only(metrics, "took")
    assert (sample.value, sample.tags) == (250, {"outcome": "GeneratorExit"})


def test_a_decorated_function_may_call_itself(
    metrics: Metrics, ticks: Callable[[float], None]
) -> None:
    @metrics.measure("took")
    def down(n: int) -> None:
        ticks(1)
        if n:
            down(n - 1)

    down(2)
    assert sorted(sample.value for sample in metrics.query("took")) == [1000, 2000, 3000]
