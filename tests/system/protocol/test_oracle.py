"""The oracle of the model finds wrong results and wrong pages, and accepts right ones."""

import pytest

from tests.system.protocol.metric import Moment
from tests.system.protocol.oracle import Oracle, Totals, fits, misplaced
from tests.system.protocol.samples import Sample
from tests.system.protocol.slots import BUDGET, HEARTBEAT
from tests.system.protocol.totals import Change, Exemplar, Row, TotalsRead, applied, sums

SAMPLES = {number: Sample(number, "a", 1000 + 4 * number) for number in range(3)}
WINDOWS = [(1000, 1006), (1006, 1012)]
RIGHT = [[(0, "a"), (1, "a")], [(2, "a")]]


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (RIGHT, []),
        ([[(0, "a"), (1, "a")], []], ["#2(a@1008) is missing"]),
        ([[(0, "a"), (1, "a")], [(1, "a"), (2, "a")]], ["#1(a@1004) is read 2 times"]),
        ([[(0, "a")], [(1, "a"), (2, "a")]], ["#1(a@1004) is read in (1006, 1012)"]),
        ([[(0, "a"), (1, "b")], [(2, "a")]], ["#1(a@1004) is read as b"]),
        (
            [[(0, "a"), (1, "a")], [(2, "a"), (7, "a")]],
            ["#7 was never recorded, or is counted as dropped"],
        ),
    ],
)
def test_oracle_finds_wrong_results(answer: list[list[tuple[int, str]]], wrong: list[str]) -> None:
    oracle = Oracle(SAMPLES, frozenset(), SAMPLES, frozenset(), time=1012)
    assert list(oracle.judge(WINDOWS, answer)) == wrong


def test_oracle_accepts_a_crowded_minute_in_the_window_of_its_start() -> None:
    crowd = {number: Sample(number, "a", 1005 + number % 2) for number in range(BUDGET + 1)}
    oracle = Oracle(crowd, frozenset(), crowd, frozenset(), time=1012)
    together = [[(number, "a") for number in crowd], []]
    assert list(oracle.judge(WINDOWS, together)) == []


def test_oracle_requires_no_samples_recorded_since_or_dropped() -> None:
    since = Oracle({}, frozenset(), SAMPLES, frozenset(), time=1012)
    dropped = Oracle(SAMPLES, frozenset(), SAMPLES, frozenset(SAMPLES), time=1012)
    for oracle in (since, dropped):
        assert list(oracle.judge(WINDOWS, [[], []])) == []
        assert list(oracle.judge(WINDOWS, RIGHT)) == []


def total(*samples: Sample) -> Row:
    row = None
    for number, sample in enumerate(samples):
        row = applied(row, sample, clock=(1000 + number) * 1000)
    assert row is not None
    return row


def gauge(number: int, time: int, kind: str = "set", *, own: bool = True) -> Sample:
    return Sample(number, "a", time, kind, own)


def test_total_of_a_counter_is_its_samples() -> None:
    assert total(Sample(1, "a", 999), Sample(0, "a", 1000)) == Row(1001, (0, 1))


def test_total_of_a_gauge_is_its_newest_set_and_the_changes_since() -> None:
    assert total(gauge(0, 990), gauge(1, 980)) == Row(1001, (0,), 990)
    assert total(gauge(0, 990), gauge(1, 990)) == Row(1001, (1,), 990)
    assert total(gauge(0, 1050, own=False), gauge(1, 1002)) == Row(1001, (1,), 1002)
    assert total(gauge(0, 990), gauge(1, 980, "add")) == Row(1001, (0, 1), 990)


def test_sum_over_processes_leaves_out_those_gone_in_a_live_mode() -> None:
    values = {("a", "A"): Row(1000, (0,)), ("a", "B"): Row(1001, (1,)), ("b", ""): Row(0, (2,))}
    later = 1001 + HEARTBEAT
    assert sums(values, later, live=True) == {"a": Row(0, (1,))}
    assert sums(values, later, live=False) == {"a": Row(0, (0, 1)), "b": Row(0, (2,))}


ONE, TWO, THREE = Row(1000, (0,)), Row(1001, (0, 1)), Row(1001, (2,))
MOMENTS = [
    Moment({}),
    Moment({"a": ONE}),
    Moment({"a": TWO, "b": THREE}),
    Moment({"a": TWO}, frozenset("b")),
]


@pytest.mark.parametrize(
    ("page", "ended", "right"),
    [
        ({"a": ONE}, 4, True),
        ({"a": TWO, "b": THREE}, 4, True),
        ({"a": TWO, "b": THREE}, 2, False),
        ({"a": ONE, "b": THREE}, 4, False),
        # Of one batch b is missing; or it was removed meanwhile.
        ({"a": TWO}, 3, False),
        ({"a": TWO}, 4, True),
    ],
)
def test_page_must_be_right_at_one_moment_of_its_reading(
    page: Totals, ended: int, right: bool
) -> None:
    assert fits(page, MOMENTS[:2], 1, MOMENTS[:ended], lambda moment: moment.rows) == right


def test_page_of_a_reader_that_skipped_changes_may_lack_samples_but_has_no_wrong_one() -> None:
    def is_right(page: Totals) -> bool:
        return fits(page, MOMENTS, 2, MOMENTS, lambda moment: moment.rows, incomplete=True)

    assert is_right({"a": ONE})
    assert not is_right({"a": THREE})
    assert not is_right({"c": ONE})


def read(exemplar: int, kind: int = 1) -> TotalsRead:
    change = Change(1001_000, "A", 1, ((0, Sample(1, "a", 1001)),), kind=kind)
    exemplars = {(0, 0): Exemplar(1000, 1000_000, exemplar), (7, 0): Exemplar(0, 0, 9)}
    return TotalsRead({0: {0: ONE}}, 0, (change,), {"a": 0}, {}, exemplars)


def test_page_is_the_base_with_the_changes_that_the_reader_knows() -> None:
    assert read(1).page() == {"a": TWO}
    assert read(1, kind=2).page(version=1) == {"a": ONE}
    assert read(1, kind=2).unknown(1) == 1


def test_exemplar_must_be_a_sample_of_its_bucket() -> None:
    assert list(misplaced(read(1), read(1).page())) == []
    assert len(list(misplaced(read(2), read(2).page()))) == 1
