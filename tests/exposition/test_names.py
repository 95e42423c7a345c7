"""Names of families and labels: valid on every page, and never the same for two things."""

import pytest

from redismetrics.exposition.families import Family
from redismetrics.exposition.text import render
from redismetrics.model.definition import define
from redismetrics.model.validation import MetricType
from tests.fixtures.exposition import c, g, gauge, h, histogram, one_label, read, samples


def page_names(*families: Family) -> list[str]:
    """The page's family names in the order of *families*, found by their help texts."""
    given = [
        Family(
            family.name,
            define(family.name, family.definition.type, help=f"family {place}"),
            family.series,
        )
        for place, family in enumerate(families)
    ]
    strict = {
        family.documentation: name
        for name, family in read(render(given, openmetrics=True), True).items()
    }
    text = {family.documentation: name for name, family in read(render(given), False).items()}
    assert strict == text
    return [strict[f"family {place}"] for place in range(len(families))]


@pytest.mark.parametrize(
    ("families", "names"),
    [
        ([g("a.b"), g("a_b"), g("a-b")], ["a_b", "a_b_2", "a_b_3"]),
        ([g("a_b_2"), g("a.b"), g("a_b")], ["a_b_2", "a_b", "a_b_3"]),
        ([g("a:b"), g("a_b")], ["a:b", "a_b"]),
        ([c("a"), c("a_total")], ["a", "a_2"]),
        ([c("a.total"), c("a")], ["a", "a_2"]),
        ([c("_total")], ["_total"]),
        ([c("x"), g("x_total")], ["x", "x_total_2"]),
        ([g("x_total"), c("x")], ["x_total", "x_2"]),
        ([c("x"), g("x")], ["x", "x_2"]),
        ([c("x"), g("x_created")], ["x", "x_created_2"]),
        ([h("lat"), g("lat_count")], ["lat", "lat_count_2"]),
        ([g("lat_sum"), h("lat")], ["lat_sum", "lat_2"]),
        ([h("lat"), h("lat_bucket")], ["lat", "lat_bucket_2"]),
        ([h("lat"), c("lat_created")], ["lat", "lat_created_2"]),
        ([h("lat"), c("lat_created_total")], ["lat", "lat_created_2"]),
        ([g("x_total"), g("x_bucket"), g("x_count"), g("x_sum"), g("x_created"), g("x_info")],
         ["x_total", "x_bucket", "x_count", "x_sum", "x_created", "x_info"]),
    ],
)  # fmt: skip
def test_the_family_declared_first_keeps_its_name(families: list[Family], names: list[str]) -> None:
    assert page_names(*families) == names


def test_a_family_without_series_keeps_its_name() -> None:
    assert render([gauge("a.b"), gauge("a_b", ({}, 5))]).splitlines()[-1] == "a_b_2 5"


@pytest.mark.parametrize("kind", ["counter", "gauge", "histogram"])
@pytest.mark.parametrize("openmetrics", [False, True])
@pytest.mark.parametrize(
    ("tags", "labels"),
    [
        (
            {"http.method": "GET", "a/b": "1", "c:d": "2"},
            {"http_method": "GET", "a_b": "1", "c_d": "2"},
        ),
        (
            {"__name__": "x", "__a": "y", "_b": "z"},
            {"tag___name__": "x", "tag___a": "y", "_b": "z"},
        ),
        ({"a.b": "1", "a_b": "2"}, {"tag_a_b": "1", "a_b": "2"}),
        ({"a-b": "1", "a.b": "2", "a/b": "3"}, {"a_b": "1", "tag_a_b": "2", "tag_a_b_2": "3"}),
        ({"a.b": "1", "a_b": "2", "tag_a_b": "3"}, {"tag_a_b_2": "1", "a_b": "2", "tag_a_b": "3"}),
        (
            {"tag___a": "1", "__a": "2", "__.a": "3"},
            {"tag___a": "1", "tag___a_2": "2", "tag____a": "3"},
        ),
    ],
)
def test_label_names(
    tags: dict[str, str], labels: dict[str, str], kind: MetricType, openmetrics: bool
) -> None:
    assert one_label(tags, kind, openmetrics) == [labels]


@pytest.mark.parametrize("openmetrics", [False, True])
def test_le_and_quantile_are_reserved_in_histograms(openmetrics: bool) -> None:
    tags = {"le": "1", "quantile": "2", "tag_le": "3"}
    page = render([histogram("m", (tags, [1.0]), buckets=(5.0,))], openmetrics=openmetrics)
    others = {"tag_le": "3", "tag_le_2": "1", "tag_quantile": "2"}
    bound = {frozenset((others | {"le": le}).items()) for le in ("5.0", "+Inf")}
    assert {labels for name, labels in samples(page, openmetrics) if name == "m_bucket"} == bound
    assert one_label(tags, "gauge", openmetrics) == [tags]


def test_a_tag_has_the_same_label_in_all_series() -> None:
    family = gauge("m", ({"a.b": "1"}, 1), ({"a-b": "1"}, 2), ({"a.b": "1", "a-b": "2"}, 3))
    assert render([family]).splitlines()[2:] == [
        'm{a_b="1"} 2',
        'm{a_b="2",tag_a_b="1"} 3',
        'm{tag_a_b="1"} 1',
    ]
    declared = gauge("m", ({"a.b": "1"}, 1), tag_keys=("a_b", "a.b"))
    assert render([declared]).splitlines()[2:] == ['m{tag_a_b="1"} 1']
