"""Take the screenshots of the web page that README.md and docs/web.md show: docs/page/*.png.

They show what `redismetrics demo --web` records, with its history and fixed random numbers. It ends
at 11:41 of the reader: the browser is in the time zone in which that has just been.

Needs chromium, playwright, and the extras `bench`, `server` and `alerts`.

    python -m benchmarks.page_pictures [VIEW ...]
"""

import io
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks import browser
from benchmarks.common import own_server, own_worker
from redismetrics.api.app import create_app
from redismetrics.cli.demo_alert import evaluate
from redismetrics.cli.demo_traffic import RULES, Traffic
from redismetrics.client.metrics import Metrics
from redismetrics.model.time import system_clock

FOLDER = Path(__file__).parents[1] / "docs" / "page"
NAMESPACE = "demo"
HOUR, MINUTE = 3600, 60
LOCAL_HOUR, PAST_HOUR = 11, 41 * MINUTE
HISTORY = 3 * HOUR
SIZES = {"desktop": (1280, 800), "phone": (390, 780)}
COLORS = 128


@dataclass(frozen=True)
class Picture:
    """A view to show: its address, what it shows when complete, size and theme."""

    path: str
    shows: str
    size: str = "desktop"
    scheme: str = "light"
    # A part of the chart, from 0 to 1, at which the pointer is.
    pointer: float | None = None
    kept: dict[str, str] = field(default_factory=dict)  # of the reader's preferences


FAILED = 'sum by (tenant) (rate(jobs_completed_total{status="failed"}[5m]))'
PICTURES = {
    "overview": Picture("#/?window=1h", "training_loss"),
    "metric": Picture(
        "#/metric/response_time_seconds?window=1h", "Percentiles", scheme="dark", pointer=0.42
    ),
    "grouped": Picture(
        "#/metric/jobs_completed?window=1h&by=tenant&style=area&compare=1", "acme", pointer=0.7
    ),
    "explore": Picture(f"#/explore?window=1h&q={quote(FAILED)}", "globex"),
    "alerts": Picture("#/alerts", "QueueTooLong"),
    "store": Picture("#/store", "Storage"),
    "phone": Picture("#/?window=1h", "training_loss", size="phone", scheme="dark"),
}


@contextmanager
def demo() -> Iterator[tuple[str, float]]:
    """Serve the page over the history of the demo; yield its address, and the time it shows."""
    from tests.fixtures.webserver import running

    now = (math.floor(system_clock()) - PAST_HOUR) // HOUR * HOUR + PAST_HOUR
    with (
        own_server() as (url, _),
        Metrics(url, namespace=NAMESPACE, clock=lambda: now) as metrics,
    ):
        Traffic(now).record_history(metrics, HISTORY)
        worker = own_worker(url, NAMESPACE)
        while worker.pass_once(alone=True):
            pass
        evaluate(metrics, RULES, range(1000 * (now - HISTORY + 600), 1000 * now, 1000 * MINUTE))
        with running(create_app(metrics, allow_write=True)) as address:
            yield address, now
        worker.leave()


def zone_of(now: float) -> str:
    """Return the time zone in which it is LOCAL_HOUR."""
    ahead = LOCAL_HOUR - int(now // HOUR % 24)
    # The sign is the other way round in these names.
    return f"Etc/GMT{-ahead:+d}"


def take(found: Any, address: str, now: float, picture: Picture) -> bytes:
    """Return the PNG of a view."""
    from playwright.sync_api import expect

    width, height = SIZES[picture.size]
    context = found.new_context(
        viewport={"width": width, "height": height},
        color_scheme=picture.scheme,
        reduced_motion="reduce",
        timezone_id=zone_of(now),
        device_scale_factor=1 if picture.size == "desktop" else 2,
    )
    page = context.new_page()
    # The rates of the last seconds would be those of a demo that has stopped.
    page.clock.set_fixed_time(now)
    page.goto(f"{address}/{picture.path}")
    page.locator("main", has_text=picture.shows).wait_for()
    expect(page.locator(".waiting, .banner.failure")).to_have_count(0)
    if picture.pointer is not None:
        box = page.locator(".plot canvas").last.bounding_box()
        page.mouse.move(box["x"] + box["width"] * picture.pointer, box["y"] + box["height"] / 3)
    # The frame that shows what was done last.
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    taken: bytes = page.screenshot()
    context.close()
    return taken


def reduced(taken: bytes) -> bytes:
    """Return a PNG with fewer colours, which is a third of the size."""
    from PIL import Image

    image = Image.open(io.BytesIO(taken)).convert("RGB")
    out = io.BytesIO()
    image.quantize(COLORS, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def main(names: list[str]) -> int:
    unknown = sorted(set(names) - set(PICTURES))
    if unknown or (missing := browser.missing()):
        print(f"no such view: {', '.join(unknown)}" if unknown else missing, file=sys.stderr)
        return 2
    FOLDER.mkdir(exist_ok=True)
    with demo() as (address, now), browser.browser() as found:
        for name in names or PICTURES:
            data = reduced(take(found, address, now, PICTURES[name]))
            (FOLDER / f"{name}.png").write_bytes(data)
            print(f"docs/page/{name}.png: {len(data) / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
