"""The overview of the web page in a real browser: few metrics, and very many."""

import re
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

# Beyond what is read as a whole with every refresh.
MANY = 1_000
# The names of the rows in the document, from the top.
NAMES = "() => [...document.querySelectorAll('.lines .metric')].map((row) => row.dataset.name)"


@pytest.fixture(scope="module")
def few(server: Server) -> Iterator[str]:
    with Metrics(server.url, namespace="page-few", flush_interval=0.05) as metrics:
        metrics.increment("beta", 500, tags={"tenant": "acme"})
        metrics.increment("beta", 1, tags={"tenant": "globex"})
        metrics.increment("alpha", 3, tags={"tenant": "acme"})
        metrics.gauge("Delta", 7)
        metrics.record("gamma", 0.25)
        metrics.summary("epsilon").record(0.5)
        metrics.flush()
        with running(create_app(metrics)) as at:
            yield at


@pytest.fixture(scope="module")
def many(server: Server) -> Iterator[str]:
    """A store of more metrics than the page reads at once."""
    with Metrics(server.url, namespace="page-many") as metrics:
        for number in range(MANY):
            for host in "ab":
                metrics.increment(f"m{number:03}", number + 1, tags={"host": host})
        metrics.increment("zz_last", 2, tags={"host": "c"})
        metrics.flush()
        with running(create_app(metrics)) as at:
            yield at


def settled(page: Any) -> None:
    """Wait until the visible rows have their figures."""
    expect(page.locator(".lines .metric").first).to_be_visible()
    expect(page.locator(".waiting")).to_have_count(0)


def test_columns_sort_by_keyboard(browser: Any, few: str) -> None:
    with opened(browser, few) as page:
        page.goto(f"{few}/#/")
        settled(page)
        assert page.evaluate(NAMES) == ["alpha", "beta", "Delta", "epsilon", "gamma"]
        page.keyboard.press("s")
        expect(page.locator(".lines .metric").first).to_contain_text("beta")
        head = page.get_by_role("columnheader", name=re.compile("Series"))
        expect(head).to_have_attribute("aria-sort", "descending")
        page.keyboard.press("s")
        expect(head).to_have_attribute("aria-sort", "ascending")
        assert page.evaluate(NAMES)[-1] == "beta"
        # By the heading too, which keeps the focus.
        rate = page.get_by_role("button", name="Rate")
        rate.focus()
        page.keyboard.press("Enter")
        expect(page.locator(".lines .metric").first).to_contain_text("beta")
        expect(rate).to_be_focused()
        for column in ("Last", "Change", "Seen", "Metric"):
            page.get_by_role("button", name=column, exact=True).click()
            expect(page.get_by_role("columnheader", name=re.compile(column))).to_have_attribute(
                "aria-sort", re.compile("ending")
            )


def test_filters_by_name_type_and_tag(browser: Any, few: str) -> None:
    with opened(browser, few) as page:
        page.goto(f"{few}/#/")
        settled(page)
        page.get_by_role("button", name="Counters").focus()
        page.keyboard.press("Enter")
        expect(page.locator(".toolbar .soft")).to_have_text("2 of 5")
        expect(page.get_by_role("button", name="Counters")).to_be_focused()
        # A type that few stores have gets a button if there is one.
        page.get_by_role("button", name="Summaries").click()
        expect(page.locator(".toolbar .soft")).to_have_text("3 of 5")
        page.keyboard.press("/")
        page.keyboard.type("tenant=globex")
        page.keyboard.press("Enter")
        expect(page.locator(".chip.filter")).to_have_text("tenant = globex")
        expect(page.locator(".lines .metric")).to_have_count(1)
        settled(page)
        assert page.evaluate(NAMES) == ["beta"]
        page.keyboard.type("nothing")
        expect(page.locator("main")).to_contain_text("No name contains “nothing”")
        page.get_by_role("button", name="Show all").click()
        expect(page.locator(".lines .metric")).to_have_count(5)


def test_rates_wait_for_a_stream_that_is_behind(browser: Any, few: str) -> None:
    """Data that has not arrived yet must not look like a drop."""
    totals = """async () => {
      const { Rates } = await import(new URL("ui/x/js/rates.js", document.baseURI));
      const rates = new Rates(1000);
      const put = (until, now) => {
        rates.put({ name: "jobs", type: "counter", until, count: 4, sum: 8, last: 2 }, now);
        rates.advance(now);
        return rates.total();
      };
      return [put(1004, 1005), put(1006, 1007), put(1008, 1020), put(1020, 1021), put(1024, 1025)];
    }"""
    with opened(browser, few) as page:
        page.goto(f"{few}/")
        assert page.evaluate(totals) == [2, 2, None, None, 2]


def test_cards_show_the_same(browser: Any, few: str) -> None:
    with opened(browser, few) as page:
        page.goto(f"{few}/#/")
        settled(page)
        page.get_by_role("button", name="Cards").click()
        expect(page.locator(".metrics.cards .metric:not(.head)")).to_have_count(5)
        expect(page.locator(".cards .headline").nth(1)).to_contain_text("/s")
        page.keyboard.press("j")
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{few}/#/metric/beta")


def test_only_the_rows_near_the_screen_are_in_the_document(browser: Any, many: str) -> None:
    with opened(browser, many) as page:
        page.goto(f"{many}/#/")
        expect(page.locator(".toolbar .soft")).to_contain_text("1,001 metrics")
        settled(page)
        rows = page.locator(".lines .metric")
        assert rows.count() < 100
        expect(page.get_by_role("table")).to_have_attribute("aria-rowcount", "1002")
        # The last one is there, with figures, once one scrolls to it.
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        last = page.locator(".metric[data-name=zz_last]")
        expect(last).to_be_in_viewport()
        expect(last).to_have_attribute("aria-rowindex", "1002")
        expect(last).not_to_have_class(re.compile("waiting"))
        expect(last.locator(".last")).to_have_text("+2")
        assert rows.count() < 100
        # Another order begins at its top.
        page.keyboard.press("s")
        expect(page.locator("[aria-rowindex='2']")).to_be_in_viewport(ratio=1)


def test_many_metrics_are_searched_and_walked_by_keyboard(browser: Any, many: str) -> None:
    with opened(browser, many) as page:
        page.goto(f"{many}/#/")
        settled(page)
        for _ in range(60):
            page.keyboard.press("j")
        expect(page.locator(".metric[data-name=m059] a")).to_be_focused()
        expect(page.locator(".metric[data-name=m059]")).to_be_in_viewport()
        page.keyboard.press("/")
        page.keyboard.type("m765")
        expect(page.locator(".lines .metric")).to_have_count(1)
        expect(page.locator(".toolbar .soft")).to_contain_text("1 of 1,001")
        settled(page)
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{many}/#/metric/m765")


def test_many_metrics_are_sorted_by_figures_of_all(browser: Any, many: str) -> None:
    with opened(browser, many) as page:
        page.goto(f"{many}/#/?sort=rate&down=1")
        # Figures come in parts; the order is right when all have come.
        expect(page.locator(".toolbar .soft")).to_have_text("1,001 metrics")
        settled(page)
        expect(page.locator(".lines .metric").first).to_contain_text("m999")
        page.goto(f"{many}/#/?tag=host%3Dc")
        expect(page.locator(".lines .metric")).to_have_count(1)
        settled(page)
        assert page.evaluate(NAMES) == ["zz_last"]
