"""Explore, Store and Alerts of the web page in a real browser."""

import re
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
from redismetrics.promql.function_names import FUNCTIONS
from redismetrics.promql.tokens import AGGREGATIONS
from tests.api.test_silence_endpoints import evaluate
from tests.fixtures.servers import Server
from tests.fixtures.webserver import running

pytestmark = pytest.mark.slow

NAMESPACE = "page-explore"
REMEMBER = """(all) => {
  const [key] = Object.keys(localStorage).filter((each) => each.includes("expressions"));
  localStorage.setItem(key, JSON.stringify(all));
}"""
MODULE = "async (name) => await import(new URL(`ui/x/js/${name}`, document.baseURI))"


@pytest.fixture(scope="module")
def recorded(server: Server) -> Iterator[Metrics]:
    with Metrics(server.url, namespace=NAMESPACE, flush_interval=0.05) as metrics:
        for tenant, count in (("acme", 30), ("globex", 12), ('a"b\\c', 5)):
            metrics.increment("jobs", count, tags={"tenant": tenant})
        metrics.record("seconds", 0.25, tags={"route": "/pay"})
        metrics.flush()
        rules = [
            Rule("Down", "down", is_alert=True),
            Rule("Slow", "down", is_alert=True, for_ms=3_600_000),
        ]
        evaluate(server.url, NAMESPACE, *rules)
        yield metrics


@pytest.fixture(scope="module")
def address(recorded: Metrics) -> Iterator[str]:
    with running(create_app(recorded, allow_write=True)) as at:
        yield at


@pytest.mark.parametrize("size", SIZES)
def test_errors_are_marked_where_they_are(browser: Any, address: str, size: str) -> None:
    everything = "sum(jobs_total) by by"
    cases = {
        "sum(rate(jobs_total[5m])": "(",
        "rat(jobs_total[5m])": "rat",
        'jobs_total{tenant="acme} + 1': '"acme} + 1',
        "sum(jobs_total) / foo(1)": "foo",
        # Characters are counted, not the units of the page's strings.
        'jobs_total{tenant="😀"} + foo(1)': "foo",
        "sum(jobs_total)\n  + foo(1)": "foo",
        everything: everything,
        "jobs_total[5m]": "jobs_total[5m]",
    }
    with opened(browser, address, size) as page:
        page.goto(f"{address}/#/explore")
        field = page.get_by_label("PromQL expression")
        for text, marked in cases.items():
            field.fill(text)
            page.get_by_role("button", name="Run").click()
            expect(page.locator(".below mark")).to_have_text(marked)
            expect(field).to_have_attribute("aria-invalid", "true")
            error = page.get_by_role("alert")
            expect(error).to_have_id(str(field.get_attribute("aria-errormessage")))
            expect(error).not_to_be_empty()
            # The mark is where the text is.
            field.evaluate("(field) => field.blur()")
            below, over = page.locator(".below").bounding_box(), field.bounding_box()
            assert [below[side] for side in ("x", "y", "width")] == [
                over[side] for side in ("x", "y", "width")
            ]
            # Who writes on is no longer told.
            field.press("End")
            page.keyboard.type(" ")
            expect(page.locator(".below mark")).to_have_count(0)
            expect(field).to_have_attribute("aria-invalid", "false")


def test_names_labels_values_and_functions_are_completed(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.goto(f"{address}/#/explore")
        expect(page.get_by_role("heading", name="Examples")).to_be_visible()
        field = page.get_by_label("PromQL expression")
        field.focus()

        def take(written: str, offered: str, kind: str) -> None:
            """Type something, select a suggestion with the arrow keys, and accept it."""
            page.keyboard.type(written)
            text = re.compile(f"^{re.escape(offered + kind)}$")
            option = page.get_by_role("option").filter(has_text=text)
            expect(option).to_be_visible()
            while option.get_attribute("aria-selected") != "true":
                page.keyboard.press("ArrowDown")
            active = field.get_attribute("aria-activedescendant")
            assert active == option.get_attribute("id")
            page.keyboard.press("Enter")
            expect(page.get_by_role("listbox")).to_be_hidden()

        take("su", "sum", "function")
        expect(field).to_have_value("sum(")
        take("jobs_to", "jobs_total", "metric")
        take("{", "tenant", "label")
        take('="a', 'a"b\\c', "value")
        expect(field).to_have_value('sum(jobs_total{tenant="a\\"b\\\\c"')
        page.keyboard.type("})")
        page.keyboard.press("Enter")
        expect(page.locator(".told")).to_contain_text("1 series")
        # Without a letter by Control and the space bar; Escape closes.
        field.fill("")
        page.keyboard.press("Control+Space")
        expect(page.get_by_role("option")).to_have_count(8)
        page.keyboard.press("Escape")
        expect(page.get_by_role("listbox")).to_be_hidden()
        # Not in a range or a string.
        for text in ("rate(jobs_total[5m", 'label_replace(jobs_total, "jo'):
            field.fill(text)
            expect(page.get_by_role("listbox")).to_be_hidden()


def test_all_functions_are_completed(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.goto(f"{address}/")
        found = page.evaluate(f"async () => (await ({MODULE})('completion.js')).FUNCTIONS")
    assert found == sorted(FUNCTIONS | AGGREGATIONS)


def test_expressions_are_remembered(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.goto(f"{address}/#/explore")
        history = page.get_by_role("button", name="History")
        history.click()
        expect(page.locator(".panel:popover-open")).to_contain_text("appear here")
        page.keyboard.press("Escape")
        field = page.get_by_label("PromQL expression")
        for text in ("sum(jobs_total)", "wrong(", "29 + 1", "30 + 1"):
            field.fill(text)
            field.press("Enter")
            expect(page).to_have_url(f"{address}/#/explore?q={quote(text).replace('%20', '+')}")
            if text == "wrong(":
                expect(page.get_by_role("alert")).to_be_visible()
            else:
                expect(page.locator(".told")).to_contain_text("1 series")
                expect(page.get_by_role("cell").first).to_be_visible()
                expect(page.locator(".waiting")).to_have_count(0)
            if text == "sum(jobs_total)":
                # As if 29 others had been evaluated.
                page.evaluate(REMEMBER, [f"{number} + 1" for number in range(28, -1, -1)])
        page.reload()
        history.focus()
        page.keyboard.press("Enter")
        items = page.locator(".panel:popover-open .item.tall")
        # The newest 30 that could be evaluated.
        expect(items).to_have_count(30)
        expect(items.last).to_have_text("1 + 1")
        expect(items.first).to_have_text("30 + 1")
        expect(items.first).to_be_focused()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(field).to_have_value("29 + 1")
        history.click()
        page.get_by_role("button", name="Forget all").click()
        history.click()
        expect(page.locator(".panel:popover-open")).to_contain_text("appear here")


def test_store_shows_the_findings_and_advice_of_the_doctor(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        with page.expect_response("**/api/doctor*") as response:
            page.goto(f"{address}/#/store")
        findings = page.locator(".finding")
        report = response.value.json()["findings"]
        expect(findings).to_have_count(len(report))
        shown = findings.evaluate_all("all => all.map((each) => each.classList[1])")
        order = ["failure", "warning", "ok"]
        assert shown == sorted((each["status"] for each in report), key=order.index)
        for each in report:
            finding = findings.filter(has=page.get_by_text(each["check"], exact=True))
            expect(finding.first).to_contain_text(each["found"])
            expect(finding.first).to_contain_text(each["advice"].replace("`", ""))
        rows = page.request.get(f"{address}/api/cardinality?limit=20").json()["metrics"]
        for row in rows:
            line = page.get_by_role("row").filter(has=page.get_by_role("link", name=row["name"]))
            expect(line.get_by_role("cell").first).to_have_text(str(row["series"]))
            for key, count in row["tags"].items():
                expect(line).to_contain_text(f"{key} {count}")


def test_store_names_metrics_that_cannot_be_read(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        stats = page.request.get(f"{address}/api/stats").json()
        stats["storage"]["skipped"] = {"newer": "its format is 3"}
        page.route("**/api/stats*", lambda route: route.fulfill(json=stats))
        page.goto(f"{address}/#/store")
        expect(page.locator(".banner")).to_have_text("newer cannot be read: its format is 3")


def test_store_shows_the_rest_if_the_doctor_does_not_respond(browser: Any, address: str) -> None:
    refusal = {"error": "unavailable", "message": "too many requests; retry later"}
    with opened(browser, address) as page:
        page.route("**/api/doctor*", lambda route: route.fulfill(status=503, json=refusal))
        page.goto(f"{address}/#/store")
        expect(page.locator("main")).to_contain_text("too many requests; retry later")
        expect(page.locator("main")).to_contain_text("Samples kept")
        expect(page.locator("main")).to_contain_text("Cardinality")


def test_alert_is_silenced_for_other_times_by_the_menu(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.goto(f"{address}/#/alerts")
        pending = page.locator(".rule.pending")
        expect(pending).to_contain_text("Slow")
        pending.get_by_role("button", name="For longer").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="For 4 hours")).to_be_focused()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        # One that is pending can be silenced before it fires.
        expect(pending).to_contain_text("silenced")
        expect(page.locator(".silence")).to_contain_text(re.compile(r"(1\sd|23\sh .*) left"))
        page.get_by_role("button", name="End").click()
        expect(page.locator(".silence")).to_have_count(0)
        expect(pending.get_by_role("button", name="Silence", exact=True)).to_be_visible()


def test_infinite_values_are_signs(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.goto(f"{address}/#/explore?q=vector(1)/0")
        expect(page.locator("main table td.number")).to_have_text("∞")
        page.goto(f"{address}/#/explore?q=-vector(1)/0")
        expect(page.locator("main table td.number")).to_have_text("−∞")
