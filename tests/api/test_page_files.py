"""The web page's files: headers, caching, compression, the token, and Host."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import redismetrics
from redismetrics import Metrics
from tests.fixtures.servers import PATIENT
from tests.fixtures.webserver import running

httpx = pytest.importorskip("httpx", reason="needs httpx")
pytest.importorskip("starlette", reason="needs redismetrics[server]")

from starlette.applications import Starlette
from starlette.routing import Mount

from redismetrics.api.app import create_app

FOLDER = Path(redismetrics.__file__).parent / "api" / "page"
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())


@pytest.fixture
def guarded(metrics: Metrics) -> Iterator[Any]:
    app = create_app(metrics, token="secret", localhost_only=True)
    with running(app) as at, httpx.Client(base_url=at, **PATIENT) as client:
        yield client


def links(page: str) -> list[str]:
    return re.findall(r'(?:href|src)="(ui/[^"]+)"', page)


def test_all_files_need_no_token_and_no_other_site_may_use_them(guarded: Any) -> None:
    page = guarded.get("/")
    answers = [page, *(guarded.get(f"/{link}") for link in links(page.text))]
    sheets = [path for path in FILES if path.suffix == ".css"]
    # All style sheets are one file; app.js is linked twice: as script and as preload.
    assert len(answers) == len(FILES) - len(sheets) + 2
    (joined,) = (answer.text for answer in answers if "/css" in answer.headers["content-type"])
    for path in sheets:
        assert path.read_text() in joined
    for answer in answers:
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert "require-trusted-types-for 'script'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    types = {answer.headers["content-type"].partition(";")[0] for answer in answers}
    assert types == {"text/html", "text/css", "text/javascript", "image/svg+xml"}


def test_files_are_kept_by_browsers_until_they_change(web: Any) -> None:
    page = web.get("/")
    assert page.headers["cache-control"] == "no-cache"
    again = web.get("/", headers={"If-None-Match": f'"x", {page.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    script = web.get(f"/{links(page.text)[-1]}")
    assert "immutable" in script.headers["cache-control"]
    older = web.get("/ui/0123456789abcdef/js/app.js")
    assert (older.status_code, older.headers["cache-control"]) == (200, "no-cache")


def test_files_are_compressed_if_the_browser_accepts_it(web: Any) -> None:
    plain = web.get("/", headers={"Accept-Encoding": "identity"})
    packed = web.get("/", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == "Accept-Encoding"
    assert packed.text == plain.text


@pytest.mark.parametrize(
    "path",
    ["/ui/x/js/none.js", "/ui/x/index.html", "/ui/x/..%2f..%2fapp.py", "/ui/x/", "/ui/", "/ui"],
)
def test_other_paths_have_no_file(web: Any, path: str) -> None:
    assert web.get(path).status_code == 404


def test_page_is_only_for_localhost_without_a_token(guarded: Any) -> None:
    page = guarded.get("/")
    for path in ("/", f"/{links(page.text)[0]}"):
        assert guarded.get(path, headers={"Host": "evil.example"}).status_code == 403


def test_pages_of_other_sites_may_link_to_the_page_only(guarded: Any) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    assert guarded.get("/", headers=headers).status_code == 200
    assert guarded.get("/api/names", headers=headers).status_code == 403


def test_token_is_needed_for_everything_else(guarded: Any) -> None:
    for path in ("/api/names", "/metrics", "/openapi.json", "/ui", "/x/ui/y"):
        assert guarded.get(path).status_code == 401, path


def test_page_can_be_left_out(metrics: Metrics) -> None:
    with (
        running(create_app(metrics, page=False)) as at,
        httpx.Client(base_url=at, **PATIENT) as client,
    ):
        assert client.get("/").status_code == 404
        assert client.get("/ui/x/js/app.js").status_code == 404


def test_mounted_page_is_below_its_path(metrics: Metrics) -> None:
    app = create_app(metrics, token="secret")
    mounted = Starlette(routes=[Mount("/metrics-ui", app)])
    # Used by the server of the tests.
    mounted.state.service = app.state.service
    with running(mounted) as at, httpx.Client(base_url=at, **PATIENT) as client:
        page = client.get("/metrics-ui/")
        assert page.status_code == 200
        assert client.get(f"/metrics-ui/{links(page.text)[-1]}").status_code == 200
        assert client.get("/metrics-ui/api/names").status_code == 401


def test_files_are_small_also_compressed(web: Any) -> None:
    assert sum(path.stat().st_size for path in FILES) <= 270_000
    files = {"", *links(web.get("/").text)}
    packed = [web.get(f"/{file}", headers={"Accept-Encoding": "gzip"}) for file in files]
    assert sum(int(answer.headers["content-length"]) for answer in packed) <= 100_000


def test_files_have_no_markup_from_text() -> None:
    for path in FILES:
        text = path.read_text()
        for forbidden in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ):
            assert forbidden not in text, path
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path
