"""The web page compares runs: by elapsed time and by step, with a table that can be sorted."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures.browsers import SIZES, opened, require_browser

require_browser()

from playwright.sync_api import Page, expect

from redismetrics import Metrics
from redismetrics.api.app import create_app
from tests.fixtures.servers import Server
from tests.fixtures.training import start, train
from tests.fixtures.webserver import running

pytestmark = pytest.mark.slow

BEGAN = start(1800)
WINDOW = f"since={BEGAN:.0f}&until={BEGAN + 3600:.0f}"
# Steps of each run: the third is the longest, and began last.
RUNS = {1: range(0, 300, 5), 2: range(0, 600, 5), 10: range(0, 1200, 5)}


@pytest.fixture(scope="module")
def trained(server: Server) -> Iterator[Metrics]:
    with Metrics(server.url, namespace="page-runs", flush_interval=0.05) as metrics:
        metrics.declare("loss", "gauge", exact_samples=True)
        for at, (number, steps) in enumerate(RUNS.items()):
            train(metrics, [number], steps, BEGAN + 60 * at)
        for number in range(9):
            tags, moment = {"job": f"j{number % 2}"}, BEGAN + 10 * number
            metrics.increment("done", number, tags=tags, timestamp=moment)
        metrics.flush()
        yield metrics


@pytest.fixture(scope="module")
def address(trained: Metrics) -> Iterator[str]:
    with running(create_app(trained)) as at:
        yield at


def names(page: Page) -> list[str]:
    return [text.strip() for text in page.locator(".runs tbody th").all_text_contents()]


def column(page: Page, number: int) -> list[str | None]:
    """Return the exact values of a column of the table of runs."""
    cells = page.locator(f".runs tbody td:nth-child({number})").all()
    return [cell.get_attribute("title") for cell in cells]


def test_axis_is_chosen_and_kept_in_the_address(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.goto(f"{address}/#/metric/loss?{WINDOW}")
        expect(page.get_by_role("row", name="All series")).to_be_visible()
        page.keyboard.press("x")
        expect(page.get_by_role("button", name="Elapsed since a run began")).to_be_visible()
        page.get_by_role("button", name="step").click()
        # The runs have a tag of that name.
        expect(page.locator(".runs tbody tr")).to_have_count(3)
        assert "x=metadata.step&by=run" in page.url
        expect(page.locator(".plot canvas").last).to_have_attribute(
            "aria-label", "loss over step, 3 series. Arrow keys read values."
        )
        page.reload()
        expect(page.locator(".runs tbody tr")).to_have_count(3)
        page.get_by_role("button", name="X axis").click()
        page.get_by_role("button", name="Time, by interval").click()
        expect(page.locator(".runs")).to_be_hidden()
        assert "x=" not in page.url
        page.go_back()
        expect(page.locator(".runs tbody tr")).to_have_count(3)


def test_figures_are_those_of_the_api(browser: Any, address: str, trained: Metrics) -> None:
    with opened(browser, address) as page:
        page.goto(f"{address}/#/metric/loss?x=elapsed&by=run&sort=name&{WINDOW}")
        expect(page.locator(".runs tbody tr")).to_have_count(3)
        assert names(page) == ["r1", "r2", "r10"]
        expected = trained.rollup("loss", group_by="run", aggregations=["last", "min"], window="1d")
        for number, aggregation in ((2, "last"), (3, "min")):
            found = [float(str(text)) for text in column(page, number)]
            assert found == [expected[name][aggregation] for name in names(page)]
        seconds = page.locator(".runs tbody td:nth-child(4)").all_text_contents()
        assert [text.replace("\u202f", " ") for text in seconds] == ["15 s", "30 s", "1 min"]
        expect(page.locator(".told")).to_contain_text("3 runs · runs in this window, from their")


def test_table_is_sorted_by_keyboard(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.goto(f"{address}/#/metric/loss?x=metadata.step&by=run&{WINDOW}")
        best = page.get_by_role("columnheader", name="Best")
        expect(best).to_have_attribute("aria-sort", "ascending")
        assert names(page) == ["r10", "r2", "r1"]
        duration = page.get_by_role("button", name="Duration")
        duration.focus()
        page.keyboard.press("Enter")
        header = page.get_by_role("columnheader", name="Duration")
        expect(header).to_have_attribute("aria-sort", "descending")
        assert names(page) == ["r10", "r2", "r1"]
        # The focus stays, so that the next key turns the order around.
        expect(duration).to_be_focused()
        page.keyboard.press("Enter")
        expect(header).to_have_attribute("aria-sort", "ascending")
        assert names(page) == ["r1", "r2", "r10"]
        assert "sort=seconds&down=0" in page.url
        page.get_by_role("button", name="Highest").press("Enter")
        expect(page.get_by_role("button", name="Highest")).to_have_attribute("aria-pressed", "true")
        expect(page.get_by_role("button", name="Highest")).to_be_focused()
        page.get_by_role("button", name="Best").press("Enter")
        expect(best).to_have_attribute("aria-sort", "descending")
        values = [float(str(text)) for text in column(page, 3)]
        assert values == sorted(values, reverse=True)
        assert min(values) > 2


def test_pointer_and_keys_read_real_samples(browser: Any, address: str, trained: Metrics) -> None:
    (run,) = trained.runs("loss", tags={"run": "r1"}, x="metadata.step")
    with opened(browser, address) as page:
        page.goto(f"{address}/#/metric/loss?x=metadata.step&by=run&tag=run%3Dr1&{WINDOW}")
        expect(page.locator(".runs tbody tr")).to_have_count(1)
        page.locator(".plot canvas").last.focus()
        page.keyboard.press("Home")
        expect(page.locator(".tip time")).to_have_text("step 0")
        assert float(str(page.locator(".tip b").text_content())) == round(run["y"][0], 2)
        page.keyboard.press("End")
        expect(page.locator(".tip time")).to_have_text("step 295")
        expect(page.locator(".chart [aria-live]")).to_contain_text("step 295: r1 ")


def test_dragging_shows_a_part_of_the_axis(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.goto(f"{address}/#/metric/loss?x=metadata.step&by=run&{WINDOW}")
        expect(page.locator(".runs tbody tr")).to_have_count(3)
        box = page.locator(".plot canvas").last.bounding_box()
        assert box is not None
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + box["width"] * 0.4, middle)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.6, middle)
        page.mouse.up()
        expect(page.locator(".told")).to_contain_text("part of the x axis")
        assert "from=" in page.url
        page.locator(".plot canvas").last.dblclick()
        expect(page.locator(".told")).not_to_contain_text("part of the x axis")


@pytest.mark.parametrize("size", SIZES)
def test_counters_and_runs_without_the_key(browser: Any, address: str, size: str) -> None:
    with opened(browser, address, size) as page:
        page.goto(f"{address}/#/metric/done?x=time&by=job&{WINDOW}")
        expect(page.locator(".runs tbody tr")).to_have_count(2)
        expect(page.get_by_role("columnheader", name="Total")).to_be_visible()
        assert sorted(float(str(text)) for text in column(page, 2)) == [16, 20]
        page.goto(f"{address}/#/metric/done?x=metadata.nothing&by=job&{WINDOW}")
        expect(page.locator(".told")).to_contain_text("2 runs without nothing")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_an_invalid_axis_is_reported(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.goto(f"{address}/#/metric/loss?x=nonsense&by=run&{WINDOW}")
        expect(page.get_by_role("alert")).to_contain_text("x must be time, elapsed, or metadata.")


def test_tags_filter_and_group_with_one_request(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}/#/metric/loss?{WINDOW}")
        facets = page.locator(".facets")
        expect(facets.get_by_role("button", name="r10")).to_contain_text("57.1")
        assert len([url for url in asked if "/api/tags?" in url]) == 1
        assert not any("/api/v1/labels" in url for url in asked)
        facets.get_by_role("button", name="r10").click()
        expect(page.locator(".chip.filter")).to_have_text("run = r10")
        page.get_by_role("button", name="Group by").click()
        page.get_by_role("checkbox", name="run").click()
        expect(page.get_by_role("row", name="r10")).to_be_visible()
