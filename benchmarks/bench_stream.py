"""How soon does a subscriber have what was recorded, and how much reaches many subscribers?

    python -m benchmarks stream [--quick]

Latency is the time of receipt less the time of recording. Single samples of a gauge carry their
time in the value, at rates at which none are compressed. A sample waits for its flush, half an
interval on average, by design; so one more row shows how long after the flush was due it arrived.
Recorder and subscriber are separate processes.

Throughput: each flush has 20 series with 100 values, and the subscribers are threads of one
process. The peer publishes each sample as one JSON message, 100 in a pipeline, and its subscribers
read them with redis-py.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator

import redis

import redismetrics
from benchmarks.children import Child
from benchmarks.common import Options, Row, bound, in_turn, main, own_server
from redismetrics.stream.subscription import Subscription

QUESTION = "How soon do subscribers receive samples, and how many per second?"

CHANNEL = "samples"
PATIENCE = 60.0
# Of one flush. More values per series would be compressed.
SERIES, EACH = 20, 100
# The target is the flush interval and this much.
BEYOND_MS = 5.0
PEER = "redis-py PUBLISH"


def percentile(values: list[float], percent: float) -> float:
    return sorted(values)[min(int(len(values) * percent / 100), len(values) - 1)]


# -- latency ------------------------------------------------------------------------------------


def our_recorder(url: str, interval: float) -> Callable[[str, int, float], None]:
    metrics = redismetrics.Metrics(url, namespace="latency", flush_interval=interval)

    def record(name: str, samples: int, every: float) -> None:
        gauge = redismetrics.Gauge(name, metrics=metrics)
        for number in range(samples):
            gauge.set(time.time())
            # Vary the pause, so that samples are not in step with the flushes.
            time.sleep(every * (0.5 + (number * 0.618034) % 1))
        metrics.flush()

    record("warm", 1, 0)
    return record


def their_recorder(url: str) -> Callable[[str, int, float], None]:
    client = redis.Redis.from_url(url)

    def record(name: str, samples: int, every: float) -> None:
        for number in range(samples):
            client.publish(
                CHANNEL,
                json.dumps(
                    {"name": name, "tags": {}, "value": time.time(), "timestamp": time.time()}
                ),
            )
            time.sleep(every * (0.5 + (number * 0.618034) % 1))

    return record


def our_listener(url: str) -> Callable[[int], list[tuple[float, float]]]:
    """Return a function that returns when each sample was recorded and received."""
    metrics = redismetrics.Metrics(url, namespace="latency")
    stream = metrics.subscribe("latency")

    def listen(samples: int) -> list[tuple[float, float]]:
        found = []
        for _ in range(samples):
            sample = stream.get(PATIENCE)
            now = time.time()
            if not isinstance(sample, redismetrics.Sample) or sample.count != 1:
                raise AssertionError(f"expected a sample, got {sample!r} after {len(found)}")
            found.append((sample.value, now))
        return found

    return listen


def their_listener(url: str) -> Callable[[int], list[tuple[float, float]]]:
    messages = subscribed(url)

    def listen(samples: int) -> list[tuple[float, float]]:
        found = []
        for _ in range(samples):
            data = next_message(messages)
            found.append((data["value"], time.time()))
        return found

    return listen


def subscribed(url: str) -> redis.client.PubSub:
    messages = redis.Redis.from_url(url).pubsub(ignore_subscribe_messages=True)
    messages.subscribe(CHANNEL)
    messages.get_message(timeout=PATIENCE)
    return messages


def next_message(messages: redis.client.PubSub) -> dict[str, float]:
    message = messages.get_message(timeout=PATIENCE)
    if message is None:
        raise AssertionError(f"no message came in {PATIENCE:g} s")
    found: dict[str, float] = json.loads(message["data"])
    return found


def latency(url: str, interval: float, samples: int, every: float, runs: int) -> Iterator[Row]:
    with (
        Child(our_listener, url) as listener,
        Child(our_recorder, url, interval) as recorder,
        Child(their_listener, url) as their_reader,
        Child(their_recorder, url) as their_writer,
    ):
        late: list[float] = []

        def run(writer: Child, reader: Child, every: float) -> list[float]:
            reader.start(samples)
            writer.start("latency", samples, every)
            times = reader.wait()
            writer.wait()
            if writer is recorder:
                dues = [(recorded // interval + 1) * interval for recorded, _ in times]
                late.append(
                    percentile(
                        [(got - due) * 1e3 for (_, got), due in zip(times, dues, strict=True)], 99
                    )
                )
            return [(got - recorded) * 1e3 for recorded, got in times]

        found: dict[str, list[list[float]]] = {"ours": [], "theirs": []}
        for _ in range(runs):
            found["ours"].append(run(recorder, listener, every))
            found["theirs"].append(run(their_writer, their_reader, min(every, 0.004)))
    note = (
        "samples wait for the flush; "
        "one PUBLISH per sample does not, but costs the caller a round trip"
    )
    for percent in (50, 99):
        ours, theirs = (
            [percentile(each, percent) for each in found[name]] for name in ("ours", "theirs")
        )
        yield Row(
            f"record to subscriber, p{percent}, flush interval {interval:g} s",
            "ms",
            ours,
            PEER,
            theirs,
            target=interval * 1e3 + BEYOND_MS if percent == 99 else None,
            note=note,
            headline=percent == 99 and interval == 1,
        )
    yield Row(f"flush due to subscriber, p99, flush interval {interval:g} s", "ms", late)


# -- throughput ---------------------------------------------------------------------------------


def our_subscribers(url: str, namespace: str, many: int) -> Callable[[int], float]:
    """Return a function that returns when the last subscriber had all samples."""
    metrics = redismetrics.Metrics(url, namespace=namespace)
    streams = [metrics.subscribe("load", queue=1_000_000) for _ in range(many)]

    def read(stream: Subscription[redismetrics.Sample], samples: int) -> None:
        for number in range(samples):
            if not isinstance(found := stream.get(PATIENCE), redismetrics.Sample):
                raise AssertionError(f"expected a sample, got {found!r} after {number}")

    return lambda samples: all_of([lambda each=each: read(each, samples) for each in streams])


def their_subscribers(url: str, many: int) -> Callable[[int], float]:
    streams = [subscribed(url) for _ in range(many)]

    def read(stream: redis.client.PubSub, samples: int) -> None:
        for _ in range(samples):
            next_message(stream)

    return lambda samples: all_of([lambda each=each: read(each, samples) for each in streams])


def all_of(work: list[Callable[[], None]]) -> float:
    """Run all at once in threads; return the time at which all are done."""
    done: list[Callable[[], None]] = []

    def one(each: Callable[[], None]) -> None:
        each()
        done.append(each)

    threads = [threading.Thread(target=one, args=(each,)) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(done) < len(work):
        raise AssertionError(f"{len(work) - len(done)} of {len(work)} subscribers failed")
    return time.time()


def throughput(url: str, many: int, deliveries: int, runs: int) -> Row:
    flushes = max(deliveries // many // (SERIES * EACH), 1)
    samples = flushes * SERIES * EACH
    namespace = f"load-{many}"
    metrics = redismetrics.Metrics(url, namespace=namespace, flush_interval=3600)
    calls = bound(metrics, "gauge", "load", SERIES)
    client = redis.Redis.from_url(url)

    def ours() -> None:
        for _ in range(flushes):
            for call in calls:
                for number in range(EACH):
                    call(number * 0.25)
            metrics.flush()

    def theirs() -> None:
        for _ in range(samples // 100):
            with client.pipeline(transaction=False) as pipeline:
                for number in range(100):
                    sample = {
                        "name": "load",
                        "tags": {"series": "1"},
                        "value": number * 0.25,
                        "timestamp": time.time(),
                    }
                    pipeline.publish(CHANNEL, json.dumps(sample))
                pipeline.execute()

    with (
        Child(our_subscribers, url, namespace, many) as our_readers,
        Child(their_subscribers, url, many) as their_readers,
    ):

        def rate(write: Callable[[], None], readers: Child) -> float:
            readers.start(samples)
            began = time.time()
            write()
            return many * samples / (readers.wait() - began)

        figures = in_turn(
            {
                "ours": lambda: rate(ours, our_readers),
                "theirs": lambda: rate(theirs, their_readers),
            },
            runs,
        )
    metrics.close()
    client.close()
    name = f"{many} subscriber{'s' * (many > 1)}, total rate"
    return Row(
        name,
        "samples/s",
        figures["ours"],
        PEER,
        figures["theirs"],
        more_is_better=True,
        headline=many == 10,
    )


def measure(options: Options) -> Iterator[Row]:
    with own_server(options.server) as (url, _):
        if options.quick:
            yield from latency(url, 0.05, 40, 0.004, 1)
        else:
            yield from latency(url, 1.0, 300, 0.03, min(options.runs, 3))
            yield from latency(url, 0.05, 500, 0.004, options.runs)
        for many in (1, 10) if options.quick else (1, 10, 50):
            yield throughput(url, many, 4_000 if options.quick else 80_000, options.runs)


if __name__ == "__main__":
    main(QUESTION, measure)
