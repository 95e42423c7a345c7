"""A part of the window is chosen on a chart, and a double click goes back."""

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures.browsers import opened, require_browser

require_browser()

from playwright.sync_api import expect

from redismetrics import Metrics
from redismetrics.api.app import create_app
from tests.fixtures.servers import Server
from tests.fixtures.webserver import running

pytestmark = pytest.mark.slow

UNTIL = int(time.time()) // 3600 * 3600 - 3600
WINDOW = f"since={UNTIL - 7_200}&until={UNTIL}"
PATHS = ("metric/jobs", "explore?q=sum(jobs_total)")


@pytest.fixture(scope="module")
def address(server: Server) -> Iterator[str]:
    with Metrics(server.url, namespace="page-zoom") as metrics:
        for minute in range(120):
            metrics.increment("jobs", minute, timestamp=UNTIL - 7_200 + 60 * minute)
        metrics.flush()
        with running(create_app(metrics)) as at:
            yield at


def show(page: Any, address: str, path: str) -> Any:
    """Open a view of the window; return its chart."""
    page.goto(f"{address}/#/{path}{'&' if '?' in path else '?'}{WINDOW}")
    expect(page.locator(".told")).to_contain_text("intervals of")
    return page.locator(".plot canvas").last


@pytest.mark.parametrize("path", PATHS)
def test_double_click_goes_back_to_the_whole_window(browser: Any, address: str, path: str) -> None:
    with opened(browser, address) as page:
        chart = show(page, address, path)
        box = chart.bounding_box()
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + box["width"] * 0.4, middle)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.6, middle)
        page.mouse.up()
        whole = re.compile(f"since={UNTIL - 7_200}&until={UNTIL}")
        expect(page).not_to_have_url(whole)
        assert "since=" in page.url
        chart.dblclick()
        expect(page).to_have_url(whole)


@pytest.mark.parametrize("path", PATHS)
def test_double_click_in_an_opened_link_does_not_leave_the_page(
    browser: Any, address: str, path: str
) -> None:
    with opened(browser, address) as page:
        show(page, address, path).dblclick()
        expect(page).to_have_url(re.compile(f"#/{path.partition('?')[0]}"))
        expect(page).not_to_have_url(re.compile("since="))
        # A window that is not fixed stays.
        page.locator(".plot canvas").last.dblclick()
        expect(page).to_have_url(re.compile(f"#/{path.partition('?')[0]}"))
