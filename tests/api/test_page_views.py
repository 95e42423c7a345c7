"""What holds in every view of the web page: accessible, by keyboard alone, and safe to look at."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.fixtures.browsers import SIZES, opened, require_browser

require_browser()
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe")

from playwright.sync_api import expect

from redismetrics import Metrics
from redismetrics.alerts.rules import Rule
from redismetrics.api.app import create_app
from tests.api.test_silence_endpoints import evaluate
from tests.fixtures.servers import Server
from tests.fixtures.webserver import running

pytestmark = pytest.mark.slow

MARKUP = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>'
HOSTILE = (
    MARKUP,
    "javascript:window.pwned=1",
    "\u202egnp.exe\u2066",
    "\u05e9\u05dc\u05d5\u05dd \u202e\u05e2\u05d5\u05dc\u05dd",
    "x" * 1024,
    "a'b\"c\\d\n",
    "{{constructor.constructor('window.pwned=1')()}}",
)
LONG = "a_name_of_200_characters_" + "x" * 175
# The address of each view, and what it shows when it is complete.
VIEWS = {
    "overview": ("#/", LONG),
    "counter": ("#/metric/jobs?by=tenant", "acme"),
    "bars": ("#/metric/jobs?show=sum&style=bar&compare=1", "All series"),
    "histogram": ("#/metric/seconds", "p95"),
    "heat map": ("#/metric/seconds?show=heat", "samples in a cell"),
    "small charts": ("#/metric/jobs?split=tenant", "globex"),
    "long name": (f"#/metric/{LONG}?by={'k' * 100}", "v" * 20),
    "runs": ("#/metric/jobs?by=tenant&x=elapsed", "Duration"),
    "samples": ("#/metric/jobs?tail=1", "Live samples"),
    "explore": ("#/explore", "Examples"),
    "expression": (f"#/explore?q={quote('sum by (tenant) (jobs_total)')}", 'tenant="acme"'),
    "wrong expression": (f"#/explore?q={quote('sum(' + MARKUP)}", "sum("),
    "alerts": ("#/alerts", "Down"),
    "store": ("#/store", "Storage"),
    "unknown metric": (f"#/metric/{quote(MARKUP, safe='')}", "There is no such metric"),
}
# Nothing else has to be loaded to find what is serious.
AXE = {"resultTypes": ["violations"], "preload": False, "iframes": False}
# Elements beyond the right edge that no parent cuts off or lets scroll.
OVERFLOWING = """() => [...document.body.querySelectorAll("*")].filter((element) => {
  if (!element.getClientRects().length) return false;
  if (element.getBoundingClientRect().right <= innerWidth + 1) return false;
  for (let up = element.parentElement; up; up = up.parentElement)
    if (getComputedStyle(up).overflowX !== "visible") return false;
  return true;
}).map((element) => element.outerHTML.slice(0, 200))"""
# Names of the elements that the key Tab must reach. Equal ones, such as those of rows, are one.
NAMES = """(name) => `${name.tagName} ${name.className} ${name.ariaLabel ?? ""} ${name.title}`"""
REACHABLE = f"""() => [...document.querySelectorAll(
  "a[href], button, input, select, textarea, summary, [tabindex]"
)].filter((element) =>
  element.tabIndex >= 0 && !element.disabled && element.getClientRects().length &&
  element.checkVisibility({{visibilityProperty: true}})
).map({NAMES})"""
# The name of what has the focus, and whether one sees that.
FOCUSED = f"""() => {{
  const element = document.activeElement;
  let seen = false;
  for (let up = element; up && up !== document.body; up = up.parentElement) {{
    const {{outlineStyle, outlineWidth, borderColor}} = getComputedStyle(up);
    const accent = getComputedStyle(document.querySelector(".brand rect")).fill;
    seen ||= outlineStyle !== "none" && outlineWidth !== "0px" || borderColor === accent;
  }}
  return [({NAMES})(element), seen || element === document.body];
}}"""


@pytest.fixture(scope="module")
def recorded(server: Server) -> Iterator[Metrics]:
    """A client whose namespace is full of hostile texts."""
    with Metrics(server.url, namespace="page-views", flush_interval=0.05) as metrics:
        metrics.declare("jobs", "counter", help=MARKUP)
        for tenant in ("acme", "globex", *HOSTILE):
            metadata = {"note": MARKUP}
            metrics.increment("jobs", 2, tags={"tenant": tenant}, metadata=metadata)
        for number in range(100):
            metrics.record("seconds", number / 1000, tags={"route": "/pay"})
        metrics.gauge(LONG, 3, tags={"k" * 100: "v" * 1024})
        metrics.flush()
        for text in (MARKUP, HOSTILE[2]):
            metrics.mark(text, tags={"service": MARKUP})
        evaluate(
            server.url,
            "page-views",
            Rule(
                "Down",
                "down",
                is_alert=True,
                labels={"team": MARKUP},
                annotations={"summary": MARKUP + HOSTILE[2]},
            ),
        )
        yield metrics


@pytest.fixture(scope="module")
def address(recorded: Metrics) -> Iterator[str]:
    with running(create_app(recorded, allow_write=True)) as at:
        yield at


def show(page: Any, address: str, view: str) -> None:
    """Open a view and wait until it is complete."""
    path, text = VIEWS[view]
    page.goto(f"{address}/{path}")
    expect(page.locator("main")).to_contain_text(text)
    expect(page.locator(".waiting")).to_have_count(0)


# All views one after the other: on a busy machine that takes long.
@pytest.mark.timeout(400)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_views_are_accessible(browser: Any, address: str, size: str, scheme: str) -> None:
    # The page's own policy would stop the script that examines it.
    options = {"color_scheme": scheme, "reduced_motion": "reduce", "bypass_csp": True}
    with opened(browser, address, size, **options) as page:
        for view in VIEWS:
            show(page, address, view)
            found = axe.Axe().run(page, options=AXE)
            serious = [
                (each["id"], node["target"], node["failureSummary"])
                for each in found.response["violations"]
                if each["impact"] in ("serious", "critical")
                for node in each["nodes"]
            ]
            assert serious == [], view


@pytest.mark.parametrize("size", SIZES)
def test_hostile_texts_stay_text_and_fit(browser: Any, address: str, size: str) -> None:
    with opened(browser, address, size) as page:
        for view in VIEWS:
            show(page, address, view)
            assert page.locator("main img, main script, main iframe").count() == 0, view
            assert page.evaluate(OVERFLOWING) == [], view
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
            links = page.locator("a").evaluate_all("all => all.map((link) => link.protocol)")
            assert set(links) == {"http:"}, view


@pytest.mark.parametrize("view", VIEWS)
def test_tab_reaches_everything_with_a_visible_focus(browser: Any, address: str, view: str) -> None:
    with opened(browser, address) as page:
        show(page, address, view)
        # A refresh would move the focus.
        page.keyboard.press("Space")
        expect(page.locator(".live")).to_have_text("Paused")
        reached: set[str] = set()
        unseen: set[str] = set()
        for _ in range(3 * len(page.evaluate(REACHABLE))):
            page.keyboard.press("Tab")
            name, is_seen = page.evaluate(FOCUSED)
            reached.add(name)
            if not is_seen:
                unseen.add(name)
            if reached >= set(page.evaluate(REACHABLE)):
                break
        assert set(page.evaluate(REACHABLE)) - reached == set()
        assert unseen == set()


def test_all_views_work_by_keyboard_alone(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        press = page.keyboard.press
        show(page, address, "overview")
        # The window: the menu opens with the chosen item focused, and gives the focus back.
        press("w")
        expect(page.get_by_role("button", name="Last hour 1h")).to_be_focused()
        press("ArrowDown")
        press("Enter")
        expect(page.get_by_role("button", name="Last 6 hours").first).to_be_visible()
        assert page.evaluate("location.hash") == "#/?window=6h"
        press("d")
        press("?")
        expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
        press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        # A metric: group it by a tag, read the chart, leave it.
        press("/")
        page.keyboard.type("jobs")
        expect(page.get_by_role("link", name="seconds")).to_have_count(0)
        press("Enter")
        press("Enter")
        group = page.get_by_role("button", name="Group", exact=True)
        expect(group).to_be_visible()
        group.press("Enter")
        expect(page.get_by_role("button", name="acme").first).to_be_visible()
        expect(page.locator(".waiting")).to_have_count(0)
        page.locator(".plot canvas[tabindex]").press("End")
        expect(page.locator(".plot [aria-live]")).to_contain_text(":")
        press("u")
        expect(page.locator("main")).to_contain_text(LONG)
        # An alert: silence it, and end that.
        press("g")
        press("a")
        silence = page.get_by_role("button", name="Silence", exact=True)
        expect(silence).to_be_visible()
        silence.press("Enter")
        expect(page.locator(".rule")).to_contain_text("silenced")
        end = page.get_by_role("button", name="End", exact=True)
        end.press("Enter")
        expect(end).to_have_count(0)
        press("g")
        press("s")
        expect(page.locator("main")).to_contain_text("Storage")
        press("g")
        press("o")
        expect(page.locator("main")).to_contain_text(LONG)


def test_views_of_an_empty_store_explain_it(browser: Any, url: str, namespace: str) -> None:
    texts = {
        "#/": "Nothing has been recorded yet",
        "#/metric/jobs": "There is no such metric",
        "#/explore": "Nothing has been recorded yet",
        f"#/explore?q={quote('sum(jobs_total)')}": "0 series",
        "#/alerts": "No alert rules",
        "#/store": "Storage",
    }
    with Metrics(url, namespace=namespace) as metrics, running(create_app(metrics)) as address:
        for size in SIZES:
            with opened(browser, address, size) as page:
                for path, text in texts.items():
                    page.goto(f"{address}/{path}")
                    expect(page.locator("main")).to_contain_text(text)
                    expect(page.locator(".banner.failure")).to_have_count(0)
                    assert page.evaluate(OVERFLOWING) == [], path
