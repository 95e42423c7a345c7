"""The charts of the web page: marks, heat maps, small charts by tag, and the window before."""

import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.fixtures.browsers import opened, require_browser

require_browser()
httpx = pytest.importorskip("httpx", reason="needs httpx")

from playwright.sync_api import expect

from redismetrics import Metrics
from redismetrics.api.app import create_app
from tests.fixtures.servers import PATIENT, Server
from tests.fixtures.webserver import running

pytestmark = pytest.mark.slow

# A whole hour that is over.
UNTIL = int(time.time()) // 3600 * 3600 - 3600
SINCE = UNTIL - 3600
WINDOW = f"since={SINCE}&until={UNTIL}"
MARKUP = "<img src=x onerror=window.pwned=1> \u202edeploy"
GROUPS = 60
# Whether a chart has a pixel of a colour.
HAS_COLOUR = """(wanted) => {
  const plot = document.querySelector(".plot canvas");
  const copy = document.createElement("canvas");
  [copy.width, copy.height] = [plot.width, plot.height];
  const context = copy.getContext("2d", {willReadFrequently: true});
  context.drawImage(plot, 0, 0);
  const {data} = context.getImageData(0, 0, copy.width, copy.height);
  for (let at = 0; at < data.length; at += 4)
    if (data[at + 3] && data.slice(at, at + 3).join() === wanted) return true;
  return false;
}"""


@pytest.fixture(scope="module")
def recorded(server: Server) -> Iterator[Metrics]:
    """A client whose namespace has an hour of metrics, and marks within it."""
    with Metrics(server.url, namespace="page-charts", flush_interval=0.05) as metrics:
        metrics.declare("seconds", "histogram", unit="seconds")
        for minute in range(120):
            at = SINCE - 3600 + 60 * minute + 5
            for number, route in enumerate(("/pay", "/login", "/search")):
                tags = {"route": route, "status": ("200", "500")[minute % 7 == 0]}
                for part in range(4):
                    took = 0.02 * (number + 1) * 1.5**part * (1 + minute % 5)
                    metrics.histogram("seconds", took, tags=tags, timestamp=at)
                metrics.increment("jobs", number + minute % 3, tags={"route": route}, timestamp=at)
        for number in range(GROUPS):
            metrics.gauge("depth", number, tags={"shard": f"s{number:02}"}, timestamp=SINCE + 700)
        metrics.mark("deploy 1.2", tags={"service": "web"}, timestamp=SINCE + 1230)
        metrics.mark(MARKUP, timestamp=SINCE + 2710)
        metrics.mark("of another day", timestamp=SINCE - 86_400)
        metrics.flush()
        yield metrics


@pytest.fixture(scope="module")
def address(recorded: Metrics) -> Iterator[str]:
    with running(create_app(recorded)) as at:
        yield at


def ask(address: str, path: str, **values: Any) -> Any:
    edges = {"since": SINCE, "until": UNTIL}
    response = httpx.get(f"{address}/api/{path}", params={**edges, **values}, **PATIENT)
    assert response.status_code == 200, response.text
    return response.json()


def show(page: Any, address: str, path: str) -> None:
    """Open a view of the window, and wait until its answers are shown."""
    page.goto(f"{address}/#/{path}{'&' if '?' in path else '?'}{WINDOW}")
    expect(page.locator(".told")).to_contain_text("intervals of")
    expect(page.locator(".waiting")).to_have_count(0)


def heard(page: Any, *keys: str) -> Any:
    """Press keys on the chart; return what is said then."""
    chart = page.locator(".plot canvas[tabindex]")
    for key in keys:
        chart.press(key)
    return page.locator(".plot [aria-live]")


@pytest.mark.parametrize("path", ["metric/jobs", f"explore?q={quote('sum(jobs_total)')}"])
def test_marks_are_lines_on_the_chart_and_rows_below_it(
    browser: Any, address: str, path: str
) -> None:
    with opened(browser, address) as page:
        urls: list[str] = []
        page.on("request", lambda request: urls.append(request.url))
        show(page, address, path)
        marks = page.get_by_role("region", name="Marks")
        expect(marks.get_by_role("row")).to_have_count(2)
        newest, oldest = marks.get_by_role("row").all()
        expect(oldest).to_contain_text("deploy 1.2")
        expect(oldest).to_contain_text("service web")
        expect(newest).to_contain_text("<img src=x onerror=window.pwned=1> \\u202edeploy")
        expect(marks).not_to_contain_text("another day")
        # The row's button puts the crosshair there.
        oldest.get_by_role("button").click()
        tip = page.locator(".tip")
        expect(tip).to_contain_text("deploy 1.2")
        expect(page.locator(".plot [aria-live]")).to_contain_text("deploy 1.2")
        # Drawing it again asks the server nothing.
        page.set_viewport_size({"width": 1200, "height": 800})
        expect(page.locator(".plot canvas[tabindex]")).to_have_attribute(
            "aria-label", re.compile(", 2 marks")
        )
        assert len([url for url in urls if "/api/marks" in url]) == 1


def test_pointer_at_a_mark_shows_its_text(browser: Any, address: str) -> None:
    # So near to the right edge that the width of the labels on the left does not matter.
    since, until = SINCE + 2160, SINCE + 2760
    with opened(browser, address) as page:
        page.goto(f"{address}/#/metric/jobs?since={since}&until={until}")
        expect(page.locator(".told")).to_contain_text("10 intervals of 1m")
        expect(page.locator(".waiting")).to_have_count(0)
        box = page.locator(".plot").bounding_box()
        right = (until - SINCE - 2710) / (until - since) * (box["width"] - 12 - 45)
        tip = page.locator(".tip")
        page.mouse.move(box["x"] + box["width"] - 12 - right, box["y"] + 60)
        expect(tip.locator(".mark")).to_contain_text("\\u202edeploy")
        page.mouse.move(box["x"] + 150, box["y"] + 60)
        expect(tip.locator(".mark")).to_have_count(0)
        expect(tip).to_contain_text("rate")


def test_keys_read_the_marks_of_an_interval(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        show(page, address, "metric/jobs")
        said = heard(page, "Home", "PageDown", "PageDown")
        expect(said).to_contain_text("deploy 1.2, rate ")


def test_marks_do_not_hide_other_problems(browser: Any, address: str) -> None:
    """A chart is shown without marks if these cannot be read."""
    with opened(browser, address) as page:
        page.route("**/api/marks*", lambda route: route.fulfill(status=500, body="{}"))
        show(page, address, "metric/jobs")
        expect(page.get_by_role("region", name="Marks")).to_have_count(0)
        expect(page.locator(".banner.failure")).to_have_count(0)
        expect(heard(page, "End")).to_contain_text("rate ")


def number(text: str | None) -> int:
    return int(re.sub(r"[,·]", "", text or "") or 0)


def test_heat_map_shows_the_counts_of_the_api(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        show(page, address, "metric/seconds?show=heat")
        step = 60
        heat = ask(address, "heat", name="seconds", interval=f"{step}s")
        assert sum(map(sum, heat["counts"])) == 60 * 12
        # The legend goes up to the count of the fullest cell.
        most = max(map(max, heat["counts"]))
        key = page.get_by_role("list", name="Samples in a cell").get_by_role("listitem")
        expect(key.nth(-2)).to_have_text(str(most))
        # The crosshair reads the fullest cell of the last interval.
        said = heard(page, "End")
        expect(said).to_contain_text(f"{max(heat['counts'][-1])} sample")
        expect(said).to_contain_text("p95 ")
        above = heat["counts"][-1].index(max(heat["counts"][-1])) + 1
        count = heat["counts"][-1][above]
        expect(heard(page, "ArrowUp")).to_contain_text(f" {count} sample")
        # The table has all samples.
        page.get_by_text("Heat map as a table").click()
        table = page.get_by_role("table", name="Samples by value and time")
        rows = table.locator("tbody tr")
        expect(rows).to_have_count(sum(any(each) for each in zip(*heat["counts"], strict=True)))
        cells = [
            [number(text) for text in row.get_by_role("cell").all_text_contents()]
            for row in rows.all()
        ]
        by_bucket = [sum(each) for each in zip(*heat["counts"], strict=True)]
        assert [row[-1] for row in cells] == [each for each in reversed(by_bucket) if each]
        assert all(sum(row[:-1]) == row[-1] for row in cells)
        # Filtered, it is another one.
        page.locator(".facet li button", has_text="/pay").click()
        expect(page.locator(".chip.filter")).to_be_visible()
        expect(table.locator("tbody tr td:last-child").first).to_be_visible()
        page.wait_for_function(
            """(total) => [...document.querySelectorAll(".heat-table tbody tr td:last-child")]
              .reduce((sum, cell) => sum + Number(cell.textContent), 0) === total""",
            arg=240,
        )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_heat_map_is_drawn_darker_or_lighter_where_there_is_more(
    browser: Any, address: str, scheme: Any
) -> None:
    with opened(browser, address, color_scheme=scheme) as page:
        show(page, address, "metric/seconds?show=heat")
        lightness = page.evaluate(
            """() => [...document.querySelectorAll(".heat-key i")].map((each) => {
              const [red, green, blue] = getComputedStyle(each).backgroundColor.match(/\\d+/g);
              return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
            })"""
        )
        assert len(lightness) >= 3
        assert lightness == sorted(lightness, reverse=scheme == "light")


def test_table_of_a_heat_map_is_accessible(browser: Any, address: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe")
    # The page's own policy would stop the script that examines it.
    with opened(browser, address, bypass_csp=True, reduced_motion="reduce") as page:
        show(page, address, "metric/seconds?show=heat")
        page.get_by_text("Heat map as a table").click()
        expect(page.get_by_role("table", name="Samples by value and time")).to_be_visible()
        found = axe.Axe().run(page, options={"resultTypes": ["violations"], "preload": False})
        assert [
            each["id"]
            for each in found.response["violations"]
            if each["impact"] in ("serious", "critical")
        ] == []


def test_empty_heat_map_is_explained(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.goto(
            f"{address}/#/metric/seconds?show=heat&since={SINCE - 86400}&until={SINCE - 82800}"
        )
        expect(page.locator(".told")).to_contain_text("intervals of")
        expect(page.get_by_text("Heat map as a table")).to_be_hidden()
        expect(heard(page, "End")).to_contain_text("nothing")


def test_small_charts_show_the_values_of_a_tag(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        show(page, address, "metric/seconds")
        small = page.get_by_role("region", name="Breakdown")
        parts = small.locator(".multiple")
        expect(parts).to_have_count(3)
        groups = ask(
            address,
            "time_series",
            name="seconds",
            interval="60s",
            aggregation="p95",
            group_by="route",
            shape="columns",
            top=12,
        )["groups"]
        assert [group["tags"]["route"] for group in groups] == ["/search", "/login", "/pay"]
        for part, group in zip(parts.all(), groups, strict=True):
            expect(part.locator("bdi")).to_have_text(group["tags"]["route"])
            shown = part.locator("b").text_content().replace("\u202f", " ")
            value, unit = shown.split()
            seconds = float(value) * {"s": 1, "ms": 0.001}[unit]
            assert seconds == pytest.approx(group["values"]["p95"][-1], rel=0.005)
        # Another tag, kept in the address.
        small.get_by_role("button", name="status").click()
        expect(parts).to_have_count(2)
        expect(page).to_have_url(re.compile("split=status"))
        parts.filter(has_text="500").click()
        expect(page.locator(".chip.filter")).to_contain_text("status = 500")
        expect(small.get_by_role("button", name="status")).to_have_count(0)
        # What is grouped is in the chart already.
        page.locator(".facet", has_text="route").get_by_role("button", name="Group").click()
        expect(small).to_be_hidden()


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("metric/seconds", ".multiple:nth-child(2)"),
        ("metric/jobs?by=route", ".card.flush:not([aria-label]) tr:nth-child(2) .link"),
        ("metric/seconds", ".marks tr:nth-child(2) .link"),
    ],
)
def test_focus_stays_where_it_is_when_all_is_drawn_again(
    browser: Any, address: str, path: str, place: str
) -> None:
    with opened(browser, address, color_scheme="light") as page:
        show(page, address, path)
        page.locator(place).focus()
        with page.expect_response("**/api/time_series*"):
            page.keyboard.press("d")
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        expect(page.locator(".waiting")).to_have_count(0)
        expect(page.locator(place)).to_be_focused()


def test_a_chart_has_the_colours_of_the_theme(browser: Any, address: str) -> None:
    expression = quote("sum(jobs_total)")
    for path, light, dark in (
        ("metric/jobs", "62,76,221", "127,140,255"),
        (f"explore?q={expression}", "16,144,123", "79,209,181"),
    ):
        with opened(browser, address, color_scheme="light") as page:
            show(page, address, path)
            assert page.evaluate(HAS_COLOUR, light), path
            page.locator("h1").first.evaluate("() => document.activeElement.blur()")
            page.keyboard.press("d")
            expect(page.locator("html")).to_have_attribute("data-theme", "dark")
            page.wait_for_function(HAS_COLOUR, arg=dark)
            assert not page.evaluate(HAS_COLOUR, light), path


def test_a_group_has_the_same_colour_in_the_previous_window(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        show(page, address, "metric/jobs?by=route")
        found = page.evaluate(
            """async () => {
              const app = document.querySelector("script[type=module]").src;
              const {modelOf} = await import(app.replace("app.js", "parts/model.js"));
              const group = (route, value) => ({tags: {route}, values: {rate: [value]}});
              const now = [group("a", 3), group("b", 2), group("c", 1)];
              // In another order, and without one of them.
              const before = {groups: [group("c", 9), group("a", 5), group("d", 4)]};
              const model = modelOf({type: "counter", unit: ""}, {value: "rate", style: "line"},
                {times: [0], interval: 60, groups: now}, before, {since: 0, until: 60});
              const pairs = (all) => all.map(({label, color, values}) => [label, color, values[0]]);
              return {now: pairs(model.series), before: pairs(model.previous)};
            }"""
        )
        colors = {label: color for label, color, _ in found["now"]}
        assert found["before"] == [["a, before", colors["a"], 5], ["c, before", colors["c"], 9]]


def test_many_groups_are_the_largest_ones_in_chart_and_table(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        show(page, address, "metric/depth?by=shard")
        expect(page.locator(".told")).to_contain_text(f"the 50 largest of {GROUPS} groups")
        rows = page.get_by_role("table", name="Figures of the whole window").locator("tbody tr")
        expect(rows).to_have_count(50)
        expect(rows.first.locator("bdi")).to_have_text("s59")
        expect(rows.last.locator("bdi")).to_have_text("s10")


@pytest.mark.parametrize(
    "path", ["metric/seconds?show=heat", "metric/seconds?show=bands&compare=1", "metric/jobs"]
)
def test_charts_fit_a_phone(browser: Any, address: str, path: str) -> None:
    with opened(browser, address, "phone") as page:
        show(page, address, path)
        expect(page.get_by_role("region", name="Breakdown")).to_be_visible()
        expect(page.get_by_role("region", name="Marks")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_heat_map_is_copied_as_a_heat_map(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        show(page, address, "metric/seconds?show=heat")
        page.get_by_title("Copy this query").click()
        panel = page.locator(".panel:popover-open")
        expect(panel).to_contain_text('rm.heat_map("seconds", interval="1m"')
        expect(panel).to_contain_text("redismetrics heat-map seconds --interval 1m --since")
        text = panel.locator("code").nth(1).text_content()
        assert "/api/heat?name=seconds&interval=1m&since=" in text
        assert page.request.get(text).ok


@pytest.mark.parametrize("path", ["metric/jobs", f"explore?q={quote('sum(jobs_total)')}"])
def test_crosshair_stays_on_the_chart_of_a_shorter_window(
    browser: Any, address: str, path: str
) -> None:
    with opened(browser, address) as page:
        show(page, address, path)
        heard(page, "End")
        expect(page.locator(".tip")).to_be_visible()
        shorter = f"{'&' if '?' in path else '?'}since={SINCE}&until={SINCE + 600}"
        page.evaluate("(hash) => { location.hash = hash; }", f"#/{path}{shorter}")
        expect(page.locator(".told")).to_contain_text(re.compile("1[01] intervals of"))
        expect(page.locator(".waiting")).to_have_count(0)
        expect(page.locator(".banner.failure")).to_have_count(0)
        expect(page.locator(".tip time")).to_be_visible()


def test_arrow_keys_change_a_time_of_the_window(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        show(page, address, "metric/jobs")
        page.keyboard.press("w")
        field = page.get_by_label("From", exact=True).last
        field.focus()
        before = field.input_value()
        field.press("ArrowUp")
        expect(field).not_to_have_value(before)
        expect(field).to_be_focused()


def test_tags_are_those_of_the_whole_window(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        show(page, address, "metric/jobs")
        with page.expect_response(lambda each: f"/api/tags?name=jobs&since={SINCE}" in each.url):
            edges = f"since={SINCE}&until={SINCE + 1800}"
            page.evaluate("(hash) => { location.hash = hash; }", f"#/metric/jobs?{edges}")
