"""Take the screenshots of the web page that README.md and docs/web.md show: docs/page/*.png.

They show what `redismetrics demo --web` records, with its history and fixed random numbers, at the
last whole minute. The browser is in the time zone in which it is between eleven and twelve.

Needs chromium, playwright, and the extras `bench`, `server` and `alerts`.

    python -m benchmarks.page_pictures [VIEW ...]
"""

import io
import math
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
# Shown by the view of the store.
PORT = 6390
HOUR, MINUTE = 3600, 60
LOCAL_HOUR = 11
HISTORY = 3 * HOUR
PATIENCE_MS = 60_000
SIZES = {"desktop": (1400, 875), "phone": (390, 780)}


@dataclass(frozen=True)
class Picture:
    """A view to show: its address, what it shows when complete, size and theme."""

    path: str
    shows: str
    size: str = "desktop"
    scheme: str = "light"
    # A part of the chart, from 0 to 1, at which the pointer is.
    pointer: float | None = None


FAILED = 'sum by (tenant) (rate(jobs_completed_total{status="failed"}[5m]))'
PICTURES = {
    # First, since its doctor tells how long ago the alerts were evaluated.
    "store": Picture("#/store", "Storage"),
    "overview": Picture("#/?sort=rate&down=1", "training_loss"),
    "metric": Picture("#/metric/response_time_seconds", "Percentiles", scheme="dark", pointer=0.42),
    "heat": Picture("#/metric/response_time_seconds?show=heat", "Heat map", pointer=0.42),
    "grouped": Picture(
        "#/metric/jobs_completed?by=tenant&style=area&compare=1", "acme", pointer=0.7
    ),
    "runs": Picture(
        "#/metric/training_loss?by=run&x=metadata.step", "r1-baseline", scheme="dark", pointer=0.3
    ),
    "explore": Picture(f"#/explore?q={quote(FAILED)}", "globex", pointer=0.4),
    "alerts": Picture("#/alerts", "QueueTooLong"),
    "phone": Picture("#/?sort=rate&down=1", "training_loss", size="phone", scheme="dark"),
}


@contextmanager
def demo(port: int = PORT) -> Iterator[tuple[str, float]]:
    """Serve the page over the history of the demo; yield its address, and the time it shows."""
    from tests.fixtures.webserver import running

    url = f"redis://localhost:{port}/0"
    now = math.floor(system_clock()) // MINUTE * MINUTE
    # What the view of the store shows is that of a server with few faults.
    with (
        own_server(None, "--appendonly", "yes", "--port", str(port)),
        Metrics(url, namespace=NAMESPACE, clock=lambda: now) as metrics,
    ):
        Traffic(now).record_history(metrics, HISTORY)
        first, last = 1000 * (now - HISTORY + 10 * MINUTE), 1000 * now
        evaluate(metrics, RULES, range(first, last + 1, 1000 * MINUTE))
        worker = own_worker(url, NAMESPACE)
        while worker.pass_once(alone=True):
            pass
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            with running(create_app(metrics, allow_write=True)) as address:
                yield address, now
        finally:
            worker.stop.set()
            thread.join()


def zone_of(now: float) -> str:
    """Return the time zone in which it is LOCAL_HOUR."""
    ahead = LOCAL_HOUR - int(now // HOUR % 24)
    # The sign is the other way round in these names.
    return f"Etc/GMT{-ahead:+d}"


def take(found: Any, address: str, now: float, picture: Picture) -> bytes:
    """Return the PNG of a view."""
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE_MS)
    width, height = SIZES[picture.size]
    context = found.new_context(
        viewport={"width": width, "height": height},
        color_scheme=picture.scheme,
        reduced_motion="reduce",
        timezone_id=zone_of(now),
        device_scale_factor=1 if picture.size == "desktop" else 2,
    )
    context.set_default_timeout(PATIENCE_MS)
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
    """Return a PNG with 256 colours only, which is a third of the size.

    These are the most frequent one of each kind of colour, since small marks have strong ones, and
    the most frequent of all.
    """
    import numpy as np
    from PIL import Image

    image = np.asarray(Image.open(io.BytesIO(taken)).convert("RGB"))
    colors, places, counts = np.unique(
        image.reshape(-1, 3), axis=0, return_inverse=True, return_counts=True
    )
    frequent = np.argsort(-counts)
    kinds = (colors >> 5) @ (1, 8, 64)
    _, firsts = np.unique(kinds[frequent], return_index=True)
    ranked = dict.fromkeys([*frequent[np.sort(firsts)], *frequent])
    palette = colors[list(ranked)[:256]]
    distances = np.square(colors[:, None, :].astype(np.int32) - palette).sum(axis=2)
    nearest = distances.argmin(axis=1).astype(np.uint8)
    few = Image.fromarray(nearest[places.reshape(image.shape[:2])])
    few.putpalette(palette.tobytes())
    out = io.BytesIO()
    few.save(out, "PNG", optimize=True)
    return out.getvalue()


def main(names: list[str]) -> int:
    unknown = sorted(set(names) - set(PICTURES))
    if unknown or (missing := browser.missing()):
        print(f"no such view: {', '.join(unknown)}" if unknown else missing, file=sys.stderr)
        return 2
    FOLDER.mkdir(exist_ok=True)
    with demo() as (address, now), browser.browser() as found:
        for name in names or PICTURES:
            taken = take(found, address, now, PICTURES[name])
            data = reduced(taken)
            (FOLDER / f"{name}.png").write_bytes(data)
            print(f"docs/page/{name}.png: {len(data) / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
