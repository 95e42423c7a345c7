"""How fast is the web page with 10,000 series, and does its memory stay the same?

    python -m benchmarks page [--quick]

500 metrics of 20 series each were recorded for half an hour. Chromium runs without a window and
without a GPU, on the same cores as the server and Redis. Each run opens a page with an empty cache.

The first paint is the browser's first-contentful-paint; the overview is complete when it shows the
figures of what is on the screen. An interaction takes from the event to the frame after its effect.
A chart is drawn again and again, and one pixel is read back each time, so that the browser finishes
what it only noted down. The memory is that of JavaScript after a collection of garbage, while all
series are recorded and the overview is live: what it grew between the first minute and ten minutes
later.

Without Chromium only the sizes of the files are measured.
"""

import gzip
import re
import statistics
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redismetrics
from benchmarks import browser
from benchmarks.common import Options, Past, Row, bound, main, own_server, own_worker

QUESTION = "How fast is the web page with 10,000 series?"

NAMESPACE = "page"
KINDS = ("counter", "gauge", "histogram")
MINUTES = 30
# Of a chart.
SERIES, POINTS, ROUNDS = 50, 2_000, 20
# Seconds of live updates before the memory is first read, and from then until it is read again.
WARM, LIVE = 60.0, 600.0
PATIENCE_MS = 120_000

# The time at which the overview has its figures, and says that it has all metrics.
WATCH = """(many) => {
  window.shownAt = new Promise((done) => {
    const look = () => {
      const rate = document.querySelector(".metric:not(.head) .rate");
      const toolbar = document.querySelector(".overview .toolbar");
      if (rate?.textContent && toolbar.textContent.includes(`${many} metrics`))
        done(performance.now());
    };
    const all = {childList: true, subtree: true, characterData: true};
    new MutationObserver(look).observe(document, all);
  });
}"""
FIRST_PAINT = """() => new Promise((done) => new PerformanceObserver((list) => {
  for (const {name, startTime} of list.getEntries())
    if (name === "first-contentful-paint") done(startTime);
}).observe({type: "paint", buffered: true}))"""
# The time from an event to the frame after its effect.
INTERACTION = """async (work) => {
  const began = performance.now();
  const search = document.querySelector("input[type=search]");
  if (work.key) document.body.dispatchEvent(
    new KeyboardEvent("keydown", {key: work.key, bubbles: true, cancelable: true}));
  else {
    search.value = work.text;
    search.dispatchEvent(new InputEvent("input", {bubbles: true}));
  }
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - began;
}"""
CHART = """async ({many, points, rounds, kind}) => {
  const base = document.querySelector("script[type=module]").src.replace("app.js", "");
  const {Chart} = await import(`${base}chart/chart.js`);
  const {paint} = await import(`${base}chart/colors.js`);
  const host = document.createElement("div");
  host.style.cssText = "width: 1440px; height: 378px";
  document.querySelector("main").replaceChildren(host);
  const chart = new Chart(host);
  const times = Array.from({length: points}, (_, at) => 1_700_000_000 + at * 60);
  const walk = (from) => {
    let value = from;
    return Float64Array.from(times, () => {
      value += (Math.random() - 0.5) * from * 0.06;
      return Math.random() < 0.002 ? NaN : Math.max(0, value);
    });
  };
  const series = Array.from({length: many}, (_, at) => ({
    ...paint(at), tags: {}, label: `series ${at}`, values: walk(10 + at * 3)}));
  chart.show({times, since: times[0], until: times.at(-1), step: 60, kind, series});
  const taken = [];
  for (let round = 0; round < rounds; round++) {
    const began = performance.now();
    chart.draw();
    chart.plot.getContext("2d").getImageData(0, 0, 1, 1);
    taken.push(performance.now() - began);
  }
  chart.close();
  return taken;
}"""


def fill(url: str, metrics: int, series: int, minutes: int) -> None:
    """Record one sample a minute of each series, the last one in the current minute."""
    began = time.time() - 60 * minutes
    clock = Past(began)
    with redismetrics.Metrics(
        url, namespace=NAMESPACE, worker=False, flush_interval=3600, clock=clock
    ) as client:
        calls = handles(client, metrics, series)
        for minute in range(minutes + 1):
            clock.now = began + 60 * minute
            for number, call in enumerate(calls):
                call(1.0 + (number + minute) % 17)
            client.flush(120)
    # Until there is nothing left to do.
    for _ in own_worker(url, NAMESPACE).once():
        pass


def name_of(number: int) -> str:
    return f"service_{number:03}_{KINDS[number % len(KINDS)]}"


def handles(client: redismetrics.Metrics, metrics: int, series: int) -> list[Any]:
    tags = [{"route": f"/route/{number}"} for number in range(series)]
    return [
        call
        for number in range(metrics)
        for call in bound(client, KINDS[number % len(KINDS)], name_of(number), tags)
    ]


def asset_sizes(address: str) -> tuple[float, float]:
    """Return the kB of the page with all its files, plain and compressed as they are sent."""
    plain = packed = 0
    with urllib.request.urlopen(f"{address}/") as response:
        page = response.read()
    links = sorted(set(re.findall(r'(?:href|src)="(ui/[^"]+)"', page.decode())))
    for link in ["", *links]:
        request = urllib.request.Request(f"{address}/{link}", headers={"Accept-Encoding": "gzip"})
        with urllib.request.urlopen(request) as response:
            body = response.read()
            is_packed = response.headers.get("Content-Encoding") == "gzip"
        packed += len(body)
        plain += len(gzip.decompress(body)) if is_packed else len(body)
    return plain / 1000, packed / 1000


def opened(found: Any, address: str, many: int) -> Any:
    """Return a page in a new context that shows the overview of *many* metrics."""
    context = found.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.add_init_script(f"({WATCH})({many})")
    page.goto(f"{address}/#/")
    page.evaluate("() => window.shownAt")
    return page


def speed(found: Any, address: str, metrics: int, runs: int) -> Iterator[Row]:
    """Yield what a reader of the overview waits for."""
    figures: dict[str, list[float]] = {}

    def note(case: str, value: float) -> None:
        figures.setdefault(case, []).append(value)

    for _ in range(runs):
        page = opened(found, address, metrics)
        note("first paint", page.evaluate(FIRST_PAINT))
        note("overview complete", page.evaluate("() => window.shownAt"))
        for case, work in (
            ("letter typed into the filter", {"text": "service_1"}),
            ("filter emptied", {"text": ""}),
            ("sorted by rate", {"key": "r"}),
        ):
            note(case, page.evaluate(INTERACTION, work))
        page.context.close()
    targets = {"first paint": 1000.0, "overview complete": 1000.0}
    for case, values in figures.items():
        yield Row(case, "ms", values, target=targets.get(case, 100.0))


def charts(found: Any, address: str, runs: int, rounds: int) -> Iterator[Row]:
    """Yield what it takes to draw a chart, and the slowest time of all rounds."""
    page = found.new_page(viewport={"width": 1440, "height": 900})
    page.goto(f"{address}/#/store")
    page.wait_for_selector("main *")
    what = {"many": SERIES, "points": POINTS, "rounds": rounds}
    for kind in ("line", "area"):
        taken = [page.evaluate(CHART, {**what, "kind": kind}) for _ in range(runs)]
        medians = [statistics.median(each) for each in taken]
        target = 50.0 if kind == "line" else None
        name = f"chart of {SERIES} x {POINTS:,} points, {kind}s"
        yield Row(name, "ms", medians, target=target)
    page.close()


@contextmanager
def recording(url: str, metrics: int, series: int) -> Iterator[None]:
    """Record each series about every second, in a thread."""
    ended = threading.Event()

    def record() -> None:
        with redismetrics.Metrics(url, namespace=NAMESPACE, worker=True) as client:
            calls = handles(client, metrics, series)
            part = max(len(calls) // 10, 1)
            while True:
                for first in range(0, len(calls), part):
                    for number, call in enumerate(calls[first : first + part]):
                        call(1.0 + number % 17)
                    if ended.wait(0.1):
                        return

    thread = threading.Thread(target=record)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def memory(
    found: Any, address: str, url: str, size: tuple[int, int], live: float, warm: float
) -> Iterator[Row]:
    """Yield the memory of a live overview, and how much it grew."""
    with recording(url, *size):
        page = opened(found, address, size[0])
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")

        def measured() -> tuple[float, float]:
            for _ in range(2):
                session.send("HeapProfiler.collectGarbage")
            all_of_it = session.send("Performance.getMetrics")["metrics"]
            values = {each["name"]: each["value"] for each in all_of_it}
            return values["JSHeapUsedSize"] / 1e6, values["Nodes"]

        page.wait_for_timeout(1000 * warm)
        heap, nodes = measured()
        page.wait_for_timeout(1000 * live)
        later, more_nodes = measured()
        page.context.close()
    yield Row("memory of a live overview", "MB", [later])
    note = f"from {warm:g} s to {warm + live:g} s after the page was opened, rates live"
    yield Row("memory grown while live", "MB", [later - heap], target=1.0, note=note)
    yield Row("elements grown while live", "nodes", [more_nodes - nodes], target=200.0, note=note)


def measure(options: Options) -> Iterator[Row]:
    size = (30, 4) if options.quick else (500, 20)
    with own_server(options.server) as (url, _):
        fill(url, *size, 3 if options.quick else MINUTES)
        with browser.served(url, NAMESPACE) as address:
            plain, packed = asset_sizes(address)
            yield Row("all files", "kB", [plain], target=270.0)
            yield Row("all files, compressed", "kB", [packed], target=100.0)
            if missing := browser.missing():
                print(f"only the sizes of the files are measured: {missing}", file=sys.stderr)
                return
            with browser.browser() as found:
                yield from speed(found, address, size[0], options.runs)
                yield from charts(found, address, options.runs, 2 if options.quick else ROUNDS)
                live, warm = (2.0, 1.0) if options.quick else (LIVE, WARM)
                yield from memory(found, address, url, size, live, warm)


if __name__ == "__main__":
    main(QUESTION, measure)
