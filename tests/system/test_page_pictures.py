"""The screenshots of the web page: all views, small, described, and made by a script that works."""

import re
from pathlib import Path

import pytest

for needed in ("matplotlib", "playwright.sync_api", "starlette", "promql_parser"):
    pytest.importorskip(needed, reason=f"needs {needed}: pip install 'redismetrics[test]'")

from benchmarks import browser, page_pictures
from tests.fixtures.servers import free_port

ROOT = Path(__file__).parents[2]
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def test_all_pictures_are_there_and_small() -> None:
    sizes = {path.stem: path.stat().st_size for path in page_pictures.FOLDER.iterdir()}
    assert set(sizes) == set(page_pictures.PICTURES)
    assert max(sizes.values()) <= 150_000
    assert sum(sizes.values()) <= 1_000_000


def test_all_pictures_are_shown_and_described() -> None:
    text = (ROOT / "docs" / "web.md").read_text()
    described = dict(
        [
            *((file, alt) for alt, file in re.findall(r"!\[([^]]+)\]\(page/(\w+)\.png\)", text)),
            *re.findall(r'<img src="page/(\w+)\.png" width="\d+" alt="([^"]+)"', text),
        ]
    )
    assert set(described) == set(page_pictures.PICTURES)
    assert len(set(described.values())) == len(described)
    assert "](docs/page/overview.png)" in (ROOT / "README.md").read_text()


@pytest.mark.timeout(400)
@pytest.mark.slow
def test_pictures_are_taken() -> None:
    if missing := browser.missing():
        pytest.skip(missing)
    picture = page_pictures.PICTURES["metric"]
    with page_pictures.demo(free_port()) as (address, now), browser.browser() as found:
        taken = page_pictures.take(found, address, now, picture)
    assert taken.startswith(SIGNATURE)
    few = page_pictures.reduced(taken)
    assert few.startswith(SIGNATURE)
    assert len(few) < len(taken)
