"""The figures on the web page are those of the API for the same window, in every time zone."""

import re
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

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

ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu")
MINUTES = 50
NOW = time.time()
FACTORS = {
    "": 1,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "ns": 1e-9,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1,
    "min": 60,
    "h": 3600,
    "%": 0.01,
    "B": 1,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "pages": 1,
}
AGGREGATIONS = {"Samples": "count"}


@pytest.fixture(scope="module")
def recorded(server: Server) -> Iterator[Metrics]:
    """A client whose namespace has an hour of each type; it is over, so nothing changes."""
    with Metrics(server.url, namespace="page-figures", flush_interval=0.05) as metrics:
        metrics.declare("seconds", "histogram", unit="seconds")
        metrics.declare("memory", "gauge", unit="bytes")
        metrics.declare("hits", "gauge", unit="ratio")
        metrics.declare("printed", "counter", unit="pages")
        # Also before the window, so that there is a change against it.
        for minute in range(2 * MINUTES):
            at = NOW - 30 - 60 * minute
            for number, tenant in enumerate(("acme", "globex", "initech")):
                tags = {"tenant": tenant}
                metrics.increment("jobs", 3 + (minute * (number + 1)) % 7, tags=tags, timestamp=at)
                took = 0.0123 * (number + 1) * (1 + minute % 5)
                metrics.histogram("seconds", took, tags=tags, timestamp=at)
                metrics.histogram("seconds", 9 * took, tags=tags, timestamp=at)
                metrics.gauge(
                    "memory", 2e8 * (number + 1) + 12345 * minute, tags=tags, timestamp=at
                )
            metrics.gauge("hits", 0.5 + minute / 1000, timestamp=at)
            metrics.increment("printed", 12_345 + minute, timestamp=at)
        metrics.flush()
        yield metrics


@pytest.fixture(scope="module")
def address(recorded: Metrics) -> Iterator[str]:
    with running(create_app(recorded)) as at:
        yield at


@pytest.fixture(scope="module")
def window() -> dict[str, int]:
    """Complete minutes in the past."""
    until = int(NOW) // 60 * 60
    return {"since": until - 60 * MINUTES, "until": until}


def ask(address: str, path: str, **values: Any) -> Any:
    response = httpx.get(f"{address}/api/{path}", params=values, **PATIENT)
    assert response.status_code == 200, response.text
    return response.json()


def read(text: str) -> tuple[float, float]:
    """Return the number that a text shows, and half a unit of its last digit."""
    found = re.fullmatch(
        r"([+−±]?)(\d[\d,]*)(?:\.(\d+))?(?:e([+-]\d+))?([kMG]?)[ \u202f]?([^\s/]+)?(/s)?", text
    )
    assert found, f"not a number: {text!r}"
    sign, whole, decimals, exponent, prefix, unit, _ = found.groups(default="")
    factor = FACTORS[prefix] * FACTORS[unit] * 10.0 ** int(exponent or 0)
    value = float(f"{whole.replace(',', '')}.{decimals or 0}") * factor
    return -value if sign == "−" else value, 0.5 * 10.0 ** -len(decimals) * factor


def assert_shows(text: str, expected: float | None, what: str) -> None:
    """Assert that a text shows a number rounded to its digits, or that there is none."""
    if expected is None:
        assert text.strip() in ("", "–"), what
        return
    value, tolerance = read(text.strip())
    assert value == pytest.approx(expected, rel=1e-9, abs=1.001 * tolerance), f"{what}: {text}"


def assert_row_shows(page: Any, metric: Mapping[str, Any]) -> None:
    """Assert that the row of the overview has the figures of `/api/overview`."""
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=metric["name"]))

    def text(column: str) -> str:
        found: str = row.locator(f".{column}").text_content()
        return found

    name = metric["name"]
    assert_shows(text("rate"), metric["rate"], f"rate of {name}")
    assert_shows(text("last"), metric["last"], f"last of {name}")
    assert_shows(text("p95"), metric["p95"], f"p95 of {name}")
    assert_shows(text("series"), metric["series"], f"series of {name}")
    part = (metric["value"] - metric["previous"]) / abs(metric["previous"])
    assert_shows(text("change"), part, f"change of {name}")


@pytest.mark.parametrize("zone", ZONES)
def test_overview_shows_the_figures_of_the_api(
    browser: Any, address: str, window: dict[str, int], zone: str
) -> None:
    answer = ask(address, "overview", **window, interval="60s")
    storage = ask(address, "stats")["storage"]
    assert {each["name"] for each in answer["metrics"]} == {
        *("hits", "jobs", "memory", "printed", "seconds")
    }
    with opened(browser, address, timezone_id=zone) as page:
        page.goto(f"{address}/#/?since={window['since']}&until={window['until']}")
        expect(page.get_by_role("link", name="seconds")).to_be_visible()
        for metric in answer["metrics"]:
            assert_row_shows(page, metric)
        total = page.locator(".pulse .total b")
        expect(total).not_to_have_text("")
        assert_shows(total.text_content(), answer["samples"][-1], "samples per second")
        figures = page.locator(".pulse dl")
        expect(figures).to_contain_text("Metrics")
        for name, expected in (("Metrics", storage["names"]), ("Writers", storage["writers"])):
            shown = figures.locator("div", has=page.get_by_text(name, exact=True)).locator("dd")
            value = shown.evaluate("element => element.firstChild.textContent")
            assert_shows(value, expected, name)


@pytest.mark.parametrize("zone", ZONES)
def test_tables_of_metrics_show_the_figures_of_the_api(
    browser: Any, address: str, window: dict[str, int], zone: str
) -> None:
    with opened(browser, address, timezone_id=zone) as page:
        for name in ("jobs", "seconds", "memory"):
            assert_table_shows(page, address, window, name, ["tenant"])
        for name in ("hits", "printed"):
            assert_table_shows(page, address, window, name, [])


def assert_table_shows(
    page: Any, address: str, window: dict[str, int], name: str, by: list[str]
) -> None:
    """Assert that the table of a metric has the figures of `/api/query`, by group."""
    query = f"since={window['since']}&until={window['until']}{''.join(f'&by={key}' for key in by)}"
    page.goto(f"{address}/#/metric/{name}?{query}")
    expect(page.locator("h1 bdi")).to_have_text(name)
    table = page.get_by_role("table", name="Figures of the whole window")
    expect(table.get_by_role("cell").first).to_be_visible()
    head, *rows = table.get_by_role("row").all()
    titles = [re.sub(r"[^\w]", "", each) for each in head.locator("th").all_text_contents()]
    shown = {
        row.locator("th").text_content(): row.get_by_role("cell").all_text_contents()
        for row in rows
    }
    assert set(shown) == ({"acme", "globex", "initech"} if by else {"All series"})
    assert len(titles) > 3
    for place, title in enumerate(titles[1:]):
        aggregation = AGGREGATIONS.get(title, title.lower())
        values = ask(address, "query", name=name, aggregation=aggregation, group_by=by, **window)
        expected = (
            {row["tenant"]: row[aggregation] for row in values["results"]}
            if by
            else {"All series": values["results"]}
        )
        for group, cells in shown.items():
            assert_shows(cells[place], expected[group], f"{aggregation} of {name} of {group}")


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("hours", [1, 24])
def test_chart_reads_the_figures_of_the_api_at_the_readers_times(
    browser: Any, address: str, window: dict[str, int], zone: str, hours: int
) -> None:
    # A multiple of the interval, which depends on the width of the chart.
    until = window["until"] // 1800 * 1800
    since = until - hours * 3600
    with opened(browser, address, timezone_id=zone) as page:
        page.goto(f"{address}/#/metric/jobs?since={since}&until={until}")
        chart = page.locator(".plot canvas[tabindex]")
        told = page.locator(".told")
        expect(told).to_contain_text("intervals of")
        expect(page.locator(".plot.waiting")).to_have_count(0)
        minutes = int(re.search(r"intervals of (\d+)m", told.text_content())[1])
        rates = rates_of(address, minutes, since, until)
        said = page.locator(".plot [aria-live]")
        chart.focus()
        at = until
        for _ in range(6):
            chart.press("ArrowLeft")
            at -= 60 * minutes
            clock = datetime.fromtimestamp(at, ZoneInfo(zone)).strftime("%H:%M:%S")
            expect(said).to_contain_text(f"{clock}: ")
            shown = said.text_content().partition(f"{clock}: ")[2]
            assert shown.startswith("rate "), shown
            assert_shows(shown.removeprefix("rate "), rates[at], f"rate at {clock}")


def rates_of(address: str, minutes: int, since: int, until: int) -> dict[int, float]:
    """Return the rate of the metric `jobs` by the start of each interval."""
    what = {"name": "jobs", "aggregation": "rate", "interval": f"{minutes}m"}
    rows = ask(address, "time_series", **what, since=since, until=until)["series"]
    return {int(datetime.fromisoformat(row["timestamp"]).timestamp()): row["rate"] for row in rows}


@pytest.mark.parametrize("zone", ZONES)
def test_expression_shows_the_figures_of_the_api(
    browser: Any, address: str, window: dict[str, int], zone: str
) -> None:
    expression = "sum by (tenant) (increase(jobs_total[5m]))"
    found = ask(address, "v1/query", query=expression, time=window["until"])["data"]["result"]
    expected = {f'{{tenant="{each["metric"]["tenant"]}"}}': each["value"][1] for each in found}
    assert len(expected) == 3
    query = f"q={quote(expression)}&since={window['since']}&until={window['until']}"
    with opened(browser, address, timezone_id=zone) as page:
        page.goto(f"{address}/#/explore?{query}")
        table = page.get_by_role("table", name="The last value of each series")
        expect(table.get_by_role("cell")).to_have_count(3)
        shown = {
            row.locator("th bdi").text_content(): row.get_by_role("cell").text_content()
            for row in table.locator("tbody").get_by_role("row").all()
        }
    assert set(shown) == set(expected)
    for label, text in shown.items():
        assert_shows(text, float(expected[label]), label)


@pytest.mark.parametrize("zone", ZONES)
def test_store_shows_the_figures_of_the_api(browser: Any, address: str, zone: str) -> None:
    storage = ask(address, "stats")["storage"]
    series = {each["name"]: each["series"] for each in ask(address, "names")["metrics"]}
    with opened(browser, address, timezone_id=zone) as page:
        page.goto(f"{address}/#/store")
        for name, expected in (
            ("Samples kept", storage["total_metrics"]),
            ("Series", storage["series"]),
            ("Samples lost", 0),
            ("Writers", storage["writers"]),
        ):
            tile = page.locator(".tile", has=page.get_by_text(name, exact=True)).locator("b")
            assert_shows(tile.text_content(), expected, name)
        levels = page.get_by_role("table", name="Bytes and retention of each resolution")
        for row, level in zip(
            levels.get_by_role("row").all(), ("log", "raw", "minute", "hour", "day"), strict=True
        ):
            shown = row.get_by_role("cell").last.text_content()
            assert_shows(shown, storage["bytes"][level], f"bytes of {level}")
        largest = page.locator("section", has=page.get_by_role("heading", name="Cardinality"))
        for name, expected in series.items():
            row = largest.get_by_role("row").filter(has=page.get_by_role("link", name=name))
            assert_shows(row.get_by_role("cell").first.text_content(), expected, name)


def test_shares_of_tag_values_are_those_of_the_api(
    browser: Any, address: str, window: dict[str, int]
) -> None:
    counts = ask(address, "query", name="jobs", aggregation="count", group_by=["tenant"], **window)[
        "results"
    ]
    total = sum(row["count"] for row in counts)
    with opened(browser, address) as page:
        page.goto(f"{address}/#/metric/jobs?since={window['since']}&until={window['until']}")
        facet = page.locator(".facet")
        expect(facet.locator("li")).to_have_count(3)
        for row in counts:
            item = facet.locator("li", has_text=row["tenant"])
            assert_shows(item.locator("small").text_content(), row["count"] / total, row["tenant"])


def test_a_moving_window_shows_its_last_response(browser: Any, address: str) -> None:
    with opened(browser, address, timezone_id="Asia/Kathmandu") as page:
        answers: list[Any] = []
        page.on(
            "response",
            lambda response: answers.append(response) if "/api/overview" in response.url else None,
        )
        page.goto(f"{address}/#/?window=1h")
        row = page.get_by_role("row").filter(has=page.get_by_role("link", name="seconds"))
        expect(row.locator(".p95")).not_to_have_text("")
        page.keyboard.press("Space")
        expect(page.locator(".live")).to_have_text("Paused")
        expect(page.locator(".waiting")).to_have_count(0)
        shown = row.locator(".p95").text_content()
        figures = [
            each["p95"]
            for answer in answers
            for each in answer.json()["metrics"]
            if each["name"] == "seconds"
        ]
        assert any(
            figure == pytest.approx(read(shown)[0], abs=1.001 * read(shown)[1])
            for figure in figures
        ), (shown, figures)
