"""How the web page reaches its server: below other paths, after interruptions, while hidden."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.fixtures.browsers import opened, require_browser

require_browser()

from playwright.sync_api import expect
from starlette.applications import Starlette
from starlette.routing import Mount

from redismetrics import Metrics
from redismetrics.api.app import create_app
from tests.fixtures.servers import Server
from tests.fixtures.webserver import running

pytestmark = pytest.mark.slow

PREFIX = "/ops/metrics"
TOKEN = "s3cret"
# What each view shows when it has got its answers.
VIEWS = {
    "#/": "jobs",
    "#/metric/jobs?by=tenant&tail=1": "acme",
    "#/explore?q=sum(jobs_total)": "1 series",
    "#/alerts": "No alert rules",
    "#/store": "Cardinality",
}
# A browser without a window is never hidden, so the test sets what the page reads.
HIDEABLE = """
let isHidden = false;
Object.defineProperty(document, "hidden", {get: () => isHidden});
window.hide = (is) => {
  isHidden = is;
  document.dispatchEvent(new Event("visibilitychange"));
};
"""
# Beyond the time between two refreshes.
LONG = 60_000


@pytest.fixture(scope="module")
def recorded(server: Server) -> Iterator[Metrics]:
    with Metrics(server.url, namespace="page-connection", flush_interval=0.05) as metrics:
        metrics.increment("jobs", 30, tags={"tenant": "acme"})
        metrics.flush()
        yield metrics


def mounted(metrics: Metrics) -> Any:
    """Return a larger application that has ours below a path."""
    inner = create_app(metrics, token=TOKEN)
    outer = Starlette(routes=[Mount(PREFIX, inner)])
    # Used by the server of the tests.
    outer.state.service = inner.state.service
    return outer


class Proxied:
    """Our application as it is seen behind a proxy that removes a prefix of the path."""

    def __init__(self, metrics: Metrics) -> None:
        self._inner = create_app(metrics, token=TOKEN)
        self.state = self._inner.state

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            assert scope["path"].startswith(f"{PREFIX}/"), scope["path"]
            path, raw = scope["path"].removeprefix(PREFIX), scope["raw_path"]
            scope = {**scope, "path": path, "raw_path": raw.removeprefix(PREFIX.encode())}
        await self._inner(scope, receive, send)


def give_token(page: Any, token: str) -> None:
    page.get_by_label("Token", exact=True).last.fill(token)
    with page.expect_navigation():
        page.keyboard.press("Enter")


@pytest.mark.parametrize("make", [mounted, Proxied])
def test_page_works_below_a_path_with_a_token(browser: Any, recorded: Metrics, make: Any) -> None:
    with running(make(recorded)) as server, opened(browser, f"{server}{PREFIX}") as page:
        streams: list[Any] = []
        page.on("request", lambda each: streams.append(each) if "/stream" in each.url else None)
        page.goto(f"{server}{PREFIX}/")
        give_token(page, TOKEN)
        for view, text in VIEWS.items():
            page.goto(f"{server}{PREFIX}/{view}")
            expect(page.locator("main")).to_contain_text(text)
            expect(page.locator(".banner.failure")).to_have_count(0)
            expect(page.get_by_role("dialog")).to_have_count(0)
        # Those of the overview and of the live samples, with the token in a header only.
        sent = [each for each in streams if each.headers.get("authorization")]
        assert {each.headers["authorization"] for each in sent} == {f"Bearer {TOKEN}"}
        assert len({each.url for each in sent}) == 2
        assert not any(TOKEN in each.url for each in streams)
        assert page.evaluate("Object.values(sessionStorage)") == [TOKEN]
        assert page.evaluate("localStorage.length + document.cookie.length") <= 1


def test_a_wrong_token_is_reported(browser: Any, recorded: Metrics) -> None:
    with running(create_app(recorded, token=TOKEN)) as at, opened(browser, at) as page:
        page.goto(f"{at}/#/store")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        expect(dialog.get_by_role("alert")).to_have_count(0)
        give_token(page, "wrong")
        expect(dialog.get_by_role("alert")).to_contain_text("not valid for this server")
        give_token(page, TOKEN)
        expect(page.locator("main")).to_contain_text("Cardinality")


def test_samples_missed_in_an_interruption_follow_it(browser: Any, recorded: Metrics) -> None:
    with ExitStack() as stack:
        with running(create_app(recorded)) as at:
            port = int(at.rpartition(":")[2])
            page = stack.enter_context(opened(browser, at))
            with page.expect_response("**/api/stream*"):
                page.goto(f"{at}/#/metric/jobs?tail=1")
            recorded.increment("jobs", 4, tags={"tenant": "before"})
            expect(page.locator(".tail tbody")).to_contain_text("before")
        recorded.increment("jobs", 5, tags={"tenant": "meanwhile"})
        recorded.flush()
        with page.expect_request(
            lambda each: "/stream" in each.url and "last-event-id" in each.headers
        ):
            stack.enter_context(running(create_app(recorded), port))
        expect(page.locator(".tail tbody")).to_contain_text("meanwhile")
        expect(page.locator(".tail tbody").get_by_text("before")).to_have_count(1)


@pytest.mark.parametrize("view", ["store", "alerts", "explore?q=sum(jobs_total)"])
def test_views_without_a_stream_see_that_the_server_is_back(
    browser: Any, recorded: Metrics, view: str
) -> None:
    with ExitStack() as stack:
        with running(create_app(recorded)) as at:
            port = int(at.rpartition(":")[2])
            page = stack.enter_context(opened(browser, at))
            page.clock.install()
            page.goto(f"{at}/#/{view}")
            expect(page.locator("main")).not_to_contain_text("…")
            live = page.locator(".live")
            expect(live).to_have_text("Live")
        page.clock.fast_forward(LONG)
        expect(live).to_have_text("Reconnecting")
        expect(page.get_by_role("alert")).to_contain_text("Not up to date")
        stack.enter_context(running(create_app(recorded), port))
        page.clock.fast_forward(LONG)
        expect(live).to_have_text("Live")
        expect(page.get_by_role("alert")).to_have_count(0)


def freeze(page: Any) -> None:
    """Stop the clock of a page: its timers fire only by `fast_forward`."""
    now = datetime.now(UTC)
    page.clock.install(time=now)
    page.clock.pause_at(now + timedelta(seconds=1))


def test_a_hidden_page_sends_no_requests(browser: Any, recorded: Metrics) -> None:
    with running(create_app(recorded)) as at, opened(browser, at) as page:
        page.add_init_script(HIDEABLE)
        freeze(page)
        with ExitStack() as stack:
            for asked_at_first in ("stream", "overview", "names", "stats", "v1/rules"):
                stack.enter_context(page.expect_response(f"**/api/{asked_at_first}*"))
            page.goto(f"{at}/#/")
        expect(page.locator(".live")).to_have_text("Live")
        expect(page.locator(".lines .metric").first).to_be_visible()
        expect(page.locator(".waiting")).to_have_count(0)
        # The stream is left, so that hidden pages take no connections.
        with page.expect_event("requestfailed", lambda each: "/stream" in each.url):
            page.evaluate("hide(true)")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.clock.fast_forward(LONG)
        page.clock.fast_forward(LONG)
        assert asked == []
        expect(page.locator(".live")).to_have_text("Live")
        with page.expect_request("**/api/stream*"), page.expect_request("**/api/overview*"):
            page.evaluate("hide(false)")
        expect(page.locator(".live")).to_have_text("Live")


def test_a_paused_page_sends_no_requests(browser: Any, recorded: Metrics) -> None:
    with running(create_app(recorded)) as at, opened(browser, at) as page:
        freeze(page)
        with page.expect_response("**/api/v1/rules*"):
            page.goto(f"{at}/#/store")
        for text in ("Samples kept", "Doctor", "Cardinality"):
            expect(page.locator("main")).to_contain_text(text)
        page.keyboard.press("Space")
        expect(page.locator(".live")).to_have_text("Paused")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.clock.fast_forward(LONG)
        page.clock.fast_forward(LONG)
        assert asked == []
        with page.expect_request("**/api/stats*"):
            page.keyboard.press("Space")
            page.clock.fast_forward(LONG)


ASK = """async () => {
  const api = await import(new URL("ui/x/js/api.js", document.baseURI));
  try {
    return [await api.ask("info", {}, leave.signal)];
  } catch (error) {
    return [error.name, error.status ?? null, error.message];
  }
}"""


@pytest.mark.parametrize(
    ("prepare", "name", "status", "message"),
    [
        # A view that is left while an answer comes.
        (
            """fetch = async (_, {signal}) => new Response(new ReadableStream({start(body) {
              signal.addEventListener("abort", () => body.error(signal.reason));
              setTimeout(() => leave.abort());
            }}))""",
            "AbortError",
            None,
            "",
        ),
        # A connection that is cut while an answer comes.
        (
            """fetch = async () => new Response(new ReadableStream({start(body) {
              body.error(new TypeError("network error"));
            }}))""",
            "Error",
            0,
            "does not answer",
        ),
        # The page of a proxy.
        ("fetch = async () => new Response('<html>')", "Error", 200, "cannot be read"),
        ("fetch = async () => new Response('<html>', {status: 502})", "Error", 502, "answered 502"),
        # A connection that hangs.
        (
            """AbortSignal.timeout = () =>
              AbortSignal.abort(new DOMException("too long", "TimeoutError"))""",
            "Error",
            0,
            "does not answer",
        ),
    ],
)
def test_incomplete_responses_are_errors(
    browser: Any, recorded: Metrics, prepare: str, name: str, status: int | None, message: str
) -> None:
    with running(create_app(recorded)) as at, opened(browser, at) as page:
        page.goto(f"{at}/")
        expect(page.locator("main")).to_contain_text("jobs")
        page.evaluate(f"() => {{ window.leave = new AbortController(); {prepare} }}")
        found = page.evaluate(ASK)
        assert found[:2] == [name, status]
        assert message in found[2]


def test_attempts_to_reconnect_leave_no_listeners(browser: Any, recorded: Metrics) -> None:
    with running(create_app(recorded)) as at, opened(browser, at) as page:
        page.goto(f"{at}/#/store")
        expect(page.locator("main")).to_contain_text("Cardinality")
        left = page.evaluate(
            """async () => {
              const {stream} = await import(new URL("ui/x/js/stream.js", document.baseURI));
              const leave = new AbortController();
              const {signal} = leave;
              let listeners = 0;
              const [add, remove] = [signal.addEventListener, signal.removeEventListener];
              signal.addEventListener = (...all) => (listeners++, add.apply(signal, all));
              signal.removeEventListener = (...all) => (listeners--, remove.apply(signal, all));
              globalThis.fetch = async () => { throw new TypeError("no server"); };
              Math.random = () => -0.5;
              let cuts = 0;
              await stream({}, ({kind}) => {
                if (kind === "cut" && ++cuts === 20) leave.abort();
              }, signal);
              return [cuts, listeners];
            }"""
        )
        assert left == [20, 0]
