"""What the web page offers to copy: it is equivalent to the current query, whatever its texts."""

import shlex
import subprocess
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

WORDINGS = """async (query) => {
  const { wordings } = await import(new URL("ui/x/js/parts/copy.js", document.baseURI));
  const { windowOf } = await import(new URL("ui/x/js/address.js", document.baseURI));
  const asked = new URLSearchParams(query);
  const choice = { value: "rate", aggregations: ["rate"] };
  const metric = { name: "jobs", type: "counter" };
  return wordings(metric, choice, asked, windowOf(asked, Date.now() / 1000));
}"""


@pytest.fixture(scope="module")
def page(browser: Any, server: Server) -> Iterator[Any]:
    with (
        Metrics(server.url, namespace="page-copy", flush_interval=3600) as metrics,
        running(create_app(metrics)) as at,
        opened(browser, at) as found,
    ):
        found.goto(f"{at}/#/store")
        expect(found.locator("main")).to_contain_text("Doctor")
        yield found


@pytest.mark.parametrize("query", ["by={}&window=1h", "x=elapsed&by={}&window=1h"])
def test_the_command_is_one_command(page: Any, query: str) -> None:
    """A link to the page may have any text in place of the key of a tag."""
    key = "a;echo pwned>&2 $(id) `id` 'b' \"c\""
    text = page.evaluate(WORDINGS, query.format(key.replace(";", "%3B").replace("&", "%26")))
    command = text["Command line"]
    words = shlex.split(command)
    assert words[0] == "redismetrics"
    assert words[words.index("-g") + 1] == key
    shell = f'redismetrics() {{ printf "%s\\n" "$@"; }}\n{command}'
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True)
    assert (done.stdout.splitlines(), done.stderr) == (words[1:], "")


def test_plain_keys_are_not_quoted(page: Any) -> None:
    text = page.evaluate(WORDINGS, "by=shop&by=http.method&window=1h")
    assert " -g shop,http.method --window 1h" in text["Command line"]


def test_promql_has_the_names_of_labels(page: Any) -> None:
    text = page.evaluate(WORDINGS, "by=shop&by=http.method&tag=http.path%3D/pay&window=1h")
    assert text["PromQL"] == ('sum by (shop, http_method) (rate(jobs_total{http_path="/pay"}[1m]))')
