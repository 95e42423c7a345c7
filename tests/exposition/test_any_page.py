"""Pages of any names, tags and values: every sample can be read back."""

import math
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from redismetrics.exposition.families import Family, SeriesState
from redismetrics.exposition.text import render
from redismetrics.model.definition import define
from tests.fixtures.exposition import (
    HOSTILE_VALUES,
    c,
    counter,
    g,
    gauge,
    h,
    histogram,
    hostile_families,
    needs_promtool,
    promtool,
    read,
)

NAMES = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["a", "b", "_", "A", "a.b", "a_b"]),
        st.sampled_from(["", "", ".", "_", "-", ":", "/"]),
        st.sampled_from(
            [
                "",
                "total",
                "_total",
                "_bucket",
                "_count",
                "_sum",
                "_created",
                "_info",
                "_2",
                "_total_2",
            ]
        ),
    ),
)


KEYS = st.sampled_from([
    "a", "a.b", "a-b", "a_b", "a:b", "tag_a_b", "tag_a_b_2", "tag.a_b", "tag_le", "tag_le_2",
    "tag___a", "a_total", "le", "quantile", "l.e", "__name__", "__a", "_.a", "_", "__", "A",
])  # fmt: skip


VALUES = st.sampled_from(HOSTILE_VALUES) | st.text(st.characters(codec="utf-8"), max_size=20)


SERIES = st.lists(
    st.dictionaries(KEYS, VALUES, max_size=5),
    max_size=4,
    # empty is absent to Prometheus: such series are joined, see above
    unique_by=lambda tags: frozenset((key, value) for key, value in tags.items() if value),
)


HELP = st.text(st.characters(codec="utf-8"), max_size=20)


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


BOUNDS = st.lists(NUMBERS, min_size=1, max_size=6, unique=True).map(sorted)


@st.composite
def families(draw: st.DrawFn) -> list[Family]:
    made = []
    for name in draw(st.lists(NAMES, unique=True, max_size=8)):
        kind = draw(st.sampled_from(["counter", "gauge", "histogram"]))
        tags = draw(SERIES)
        more = {
            "help": draw(HELP),
            "unit": draw(st.sampled_from(["", "b", "total", "count", "_2"])),
        }
        if kind == "counter":
            made.append(counter(name, *((one, abs(draw(NUMBERS))) for one in tags), **more))
        elif kind == "gauge":
            made.append(gauge(name, *((one, draw(NUMBERS)) for one in tags), **more))
        else:
            values = st.lists(st.floats(-1e6, 1e6), max_size=4)
            made.append(
                histogram(
                    name, *((one, draw(values)) for one in tags), **more, buckets=draw(BOUNDS)
                )
            )
    return made


def numbered(given: Sequence[Family]) -> list[Family]:
    """The same, with a help text that tells each family."""
    return [
        Family(
            family.name,
            define(
                family.name,
                family.definition.type,
                help=f"{place} {family.definition.help}",
                unit=family.definition.unit,
                buckets=family.definition.buckets or None,
            ),
            family.series,
        )
        for place, family in enumerate(given)
    ]


def check(page: str, given: Sequence[Family], openmetrics: bool) -> None:
    """Compare *page*, as its parser reads it, with *given*, without knowing how names are made."""
    read_families = {
        int(family.documentation.split()[0]): family for family in read(page, openmetrics).values()
    }
    assert set(read_families) == {place for place, family in enumerate(given) if family.series}
    sample_names: set[str] = set()
    for place, read_family in read_families.items():
        family = given[place]
        kind = family.definition.type
        assert read_family.type == kind
        assert read_family.documentation == family.definition.help.strip()
        names = {sample.name for sample in read_family.samples}
        assert names.isdisjoint(sample_names)
        sample_names |= names
        left = iter(read_family.samples)
        labels_of: dict[str, str] = {}
        for live in sorted(family.series, key=lambda live: sorted(live.tags.items())):
            for suffix, extra, value in expected(family, live, openmetrics):
                sample = next(left)
                assert sample.name == read_family.name + suffix
                assert float(sample.value) == value
                assert sample.timestamp is None
                labels = dict(sample.labels)
                if extra is not None:
                    assert float(labels.pop("le")) == extra
                assert list(labels.values()) == [tag for _, tag in sorted(live.tags.items())]
                for key, label in zip(sorted(live.tags), labels, strict=True):
                    assert labels_of.setdefault(key, label) == label
                    assert not label.startswith("__")
        assert next(left, None) is None
        assert len(set(labels_of.values())) == len(labels_of)


def expected(
    family: Family, live: SeriesState, openmetrics: bool
) -> Iterator[tuple[str, float | None, float]]:
    if family.definition.type == "counter":
        yield "_total", None, live.value
    elif family.definition.type == "gauge":
        yield "", None, live.value
    else:
        for place, bound in enumerate(family.definition.buckets):
            yield "_bucket", bound, sum(live.buckets[: place + 1])
        yield "_bucket", math.inf, live.count
        if not openmetrics or (
            live.value >= 0 and all(bound >= 0 for bound in family.definition.buckets)
        ):
            yield "_sum", None, live.value
            yield "_count", None, live.count


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@example([g("a.b"), g("a_b"), c("a_b_total"), h("a_b"), g("a_b_count"), c("a_b_created")])
@given(families())
def test_every_sample_of_any_page_comes_back(given: list[Family]) -> None:
    given = numbered(given)
    check(render(given), given, openmetrics=False)
    check(render(given, openmetrics=True), given, openmetrics=True)


@needs_promtool
def test_promtool_reads_a_hostile_page() -> None:
    code, said = promtool(render(hostile_families()))
    assert code in (0, 3), said  # 3: bad style of names


@pytest.mark.parametrize("openmetrics", [False, True])
def test_python_reads_a_hostile_page(openmetrics: bool) -> None:
    given = numbered(hostile_families())
    check(render(given, openmetrics=openmetrics), given, openmetrics)
