"""The web page in a real browser: what a person sees and does."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.fixtures.browsers import SIZES, opened, require_browser

require_browser()

from playwright.sync_api import expect

from redismetrics import Metrics
from redismetrics.alerts.rules import Rule
from redismetrics.api.app import create_app
from tests.api.test_silence_endpoints import evaluate
from tests.fixtures.servers import Server
from tests.fixtures.webserver import running

pytestmark = pytest.mark.slow

NAMESPACE = "page-in-browser"
MARKUP = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>'
HOSTILE = [MARKUP, "\u202egnp.exe\u2066", "x" * 1024, "a'b\"c\\d\n"]
VIEWS = {
    "overview": ("#/", "jobs"),
    "metric": ("#/metric/jobs?by=tenant", "globex"),
    "percentiles": ("#/metric/seconds", "Percentiles"),
    "samples": ("#/metric/jobs?tail=1", "Live samples"),
    "explore": (f"#/explore?q={quote('sum by (tenant) (jobs_total)')}", 'tenant="acme"'),
    "alerts": ("#/alerts", "Down"),
    "store": ("#/store", "Cardinality"),
}


@pytest.fixture(scope="module")
def recorded(server: Server) -> Iterator[Metrics]:
    """A client whose metrics the page shows, one of them with hostile values of tags."""
    with Metrics(server.url, namespace=NAMESPACE, flush_interval=0.05) as metrics:
        for tenant, count in (("acme", 30), ("globex", 12)):
            metrics.increment("jobs", count, tags={"tenant": tenant})
        for value in HOSTILE:
            metrics.increment("jobs", 2, tags={"tenant": value})
        for number in range(100):
            metrics.record("seconds", number / 1000, tags={"route": "/pay"})
        metrics.flush()
        evaluate(server.url, NAMESPACE, Rule("Down", "down", is_alert=True))
        yield metrics


@pytest.fixture(scope="module")
def address(recorded: Metrics) -> Iterator[str]:
    with running(create_app(recorded, allow_write=True)) as at:
        yield at


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("view", VIEWS)
def test_every_view_shows_real_figures(browser: Any, address: str, view: str, size: str) -> None:
    path, text = VIEWS[view]
    with opened(browser, address, size) as page:
        page.goto(f"{address}/{path}")
        expect(page.locator("main")).to_contain_text(text)
        expect(page.locator(".banner.failure")).to_have_count(0)
        expect(page.locator(".waiting")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_figures_are_those_of_the_api(browser: Any, address: str, recorded: Metrics) -> None:
    with opened(browser, address) as page:
        now = page.request.get(f"{address}/api/stats").json()["timestamp"]
        until = page.evaluate("text => Math.ceil(Date.parse(text) / 1000) + 3600", now)
        page.goto(f"{address}/#/metric/jobs?by=tenant&since={until - 7200}&until={until}")
        row = page.get_by_role("row").filter(has_text="acme")
        expect(row.get_by_role("cell").nth(0)).to_have_text("30")
        total = recorded.query("jobs", aggregation="sum", tags={"tenant": "globex"})
        other = page.get_by_role("row").filter(has_text="globex")
        expect(other.get_by_role("cell").nth(0)).to_have_text(f"{total:g}")


def test_hostile_values_are_text(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.goto(f"{address}/#/metric/jobs?by=tenant&tail=1")
        expect(page.get_by_role("button", name=MARKUP).first).to_be_visible()
        expect(page.get_by_text("\\u202egnp.exe\\u2066").first).to_be_visible()
        assert page.locator("main img, main script").count() == 0
        # Filter by it: the address has it, and the table has only its own figures.
        page.get_by_role("button", name=MARKUP).first.click()
        expect(page.locator(".chip.filter")).to_contain_text(MARKUP)
        page.goto(f"{address}/#/metric/{quote(MARKUP)}")
        expect(page.locator("main")).to_contain_text("There is no such metric")
        page.goto(f"{address}/#/explore?q={quote(MARKUP)}")
        expect(page.get_by_role("alert")).to_be_visible()


def test_rates_change_after_a_recording(browser: Any, address: str, recorded: Metrics) -> None:
    with opened(browser, address) as page:
        with page.expect_response("**/api/stream*"):
            page.goto(f"{address}/#/")
        rate = page.get_by_role("row").filter(has_text="jobs").locator(".rate")
        expect(rate).to_contain_text("/s")
        before = rate.text_content()
        recorded.increment("jobs", 7, tags={"tenant": "initech"})
        expect(rate).not_to_have_text(str(before))


def test_samples_appear_as_they_are_recorded(browser: Any, address: str, recorded: Metrics) -> None:
    with opened(browser, address) as page:
        # The response begins when the stream is subscribed.
        with page.expect_response("**/api/stream*"):
            page.goto(f"{address}/#/metric/jobs?tail=1")
        expect(page.get_by_text("No samples yet")).to_be_visible()
        recorded.increment("jobs", 4, tags={"tenant": "initech"})
        expect(page.locator(".tail tbody")).to_contain_text("initech")


def test_token_is_asked_for_once_and_sent_as_a_header(browser: Any, recorded: Metrics) -> None:
    app = create_app(recorded, token="s3cret")
    with running(app) as address, opened(browser, address) as page:
        urls: list[str] = []
        page.on("request", lambda request: urls.append(request.url))
        page.goto(f"{address}/#/")
        for token in ("wrong", "s3cret"):
            page.get_by_label("Token", exact=True).last.fill(token)
            with page.expect_navigation():
                page.keyboard.press("Enter")
        expect(page.locator("main")).to_contain_text("jobs")
        expect(page.get_by_role("dialog")).to_have_count(0)
        with page.expect_request("**/api/stream*") as streaming:
            page.reload()
        assert streaming.value.headers["authorization"] == "Bearer s3cret"
        expect(page.locator("main")).to_contain_text("jobs")
        assert not any("s3cret" in url for url in urls)
        assert page.evaluate("localStorage.length + document.cookie.length") == 0


def test_page_reconnects_after_a_restart_of_the_server(browser: Any, recorded: Metrics) -> None:
    with running(create_app(recorded)) as address:
        port = int(address.rpartition(":")[2])
        context = opened(browser, address)
        page = context.__enter__()
        page.goto(f"{address}/#/")
        expect(page.locator("main")).to_contain_text("jobs")
        live = page.locator(".live")
        expect(live).to_have_text("Live")
    expect(live).to_have_text("Reconnecting")
    expect(page.locator("main")).to_contain_text("jobs")
    with running(create_app(recorded), port):
        expect(live).to_have_text("Live")
        context.__exit__(None, None, None)


def test_alert_is_silenced_with_one_click(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.goto(f"{address}/#/alerts")
        page.get_by_role("button", name="Silence", exact=True).click()
        expect(page.locator(".rule")).to_contain_text("silenced")
        page.get_by_role("button", name="End").click()
        expect(page.locator(".silence")).to_have_count(0)


def test_read_only_page_offers_no_silence(browser: Any, recorded: Metrics) -> None:
    with running(create_app(recorded)) as address, opened(browser, address) as page:
        page.goto(f"{address}/#/alerts")
        expect(page.locator("main")).to_contain_text("This server is read-only")
        expect(page.get_by_role("button", name="Silence")).to_have_count(0)


def test_page_works_by_keyboard(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.goto(f"{address}/#/")
        expect(page.get_by_role("link", name="seconds")).to_be_visible()
        page.keyboard.press("/")
        page.keyboard.type("seco")
        expect(page.get_by_role("link", name="jobs", exact=True)).to_have_count(0)
        page.keyboard.press("Enter")
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{address}/#/metric/seconds")
        expect(page.get_by_role("cell").first).to_have_text("100")
        page.keyboard.press("g")
        page.keyboard.press("e")
        page.get_by_label("PromQL expression").fill("sum(jobs_to")
        expect(page.get_by_role("option", name="jobs_total")).to_be_visible()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.keyboard.type(")")
        page.keyboard.press("Enter")
        expect(page.get_by_role("cell").first).not_to_have_text("–")
        page.go_back()
        page.go_back()
        expect(page).to_have_url(f"{address}/#/metric/seconds")


def test_empty_store_explains_how_to_record(browser: Any, url: str, namespace: str) -> None:
    with (
        Metrics(url, namespace=namespace) as metrics,
        running(create_app(metrics)) as address,
        opened(browser, address) as page,
    ):
        page.goto(f"{address}/")
        expect(page.locator("main")).to_contain_text("Nothing has been recorded yet")
        page.goto(f"{address}/#/alerts")
        expect(page.locator("main")).to_contain_text("No alert rules")
