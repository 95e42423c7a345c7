"""How long a series stays on the page: what docs/operating.md says about `series_idle`."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from redismetrics import Metrics
from redismetrics.export.prometheus import export
from redismetrics.settings import Settings
from tests.fixtures.servers import Server

DAY, WEEK = 86_400.0, 7 * 86_400.0
PAGE = Path(__file__).parents[2] / "docs" / "operating.md"


def increase(scraped: list[float | None]) -> float:
    """Return what PromQL's `increase` counts, without extrapolation: the rises between points.

    None is a scrape without the series. It is no point, and a first point counts nothing.
    """
    points = [value for value in scraped if value is not None]
    return sum(max(after - before, 0) for before, after in pairwise(points))


@pytest.mark.parametrize(("series_idle", "counted"), [(None, 0), (691_200.0, 1)])
def test_a_weekly_job_counts_if_series_idle_is_longer_than_a_week(
    moving_server: Server, namespace: str, series_idle: float | None, counted: int
) -> None:
    with (
        Metrics(moving_server.url, namespace=namespace, clock=lambda: moving_server.time) as writer,
        Metrics(moving_server.url, namespace=namespace, series_idle=series_idle) as reader,
    ):

        def scrape() -> float | None:
            found = re.search(r"^jobs_total (\S+)$", export(metrics=reader), re.MULTILINE)
            return float(found[1]) if found else None

        writer.increment("jobs")
        writer.flush()
        first = scrape()
        moving_server.advance(WEEK - DAY)
        within_the_last_day = [scrape()]
        moving_server.advance(DAY)
        within_the_last_day.append(scrape())
        writer.increment("jobs")
        writer.flush()
        within_the_last_day.append(scrape())
    assert first == 1
    # A counter that left the page comes back with its total so far.
    assert within_the_last_day[-1] == 2
    assert increase(within_the_last_day) == counted


def test_the_page_names_the_default_and_a_value_for_a_weekly_job() -> None:
    text = " ".join(PAGE.read_text().split())
    assert "691,200 s (8 days) for a weekly job" in text
    assert "default of one day" in text
    assert Settings().series_idle == DAY
    assert WEEK < 691_200 == 8 * DAY
