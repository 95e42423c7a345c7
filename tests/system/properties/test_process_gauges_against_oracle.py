"""Gauges per process, in random histories of processes that live, are silent, end and come back."""

import random
from dataclasses import dataclass, field

import pytest

from redismetrics import Metrics
from redismetrics.columnar.process_values import BEAT_SECONDS, GONE_MS, Process
from redismetrics.model.options import MERGE_MODES
from redismetrics.model.time import monotonic
from redismetrics.recording import own_values
from tests.fixtures.clients import NEVER
from tests.fixtures.servers import PATIENCE, Server
from tests.fixtures.workers import new_worker, pull_forward

pytestmark = pytest.mark.slow

TAGS = ("a", "b")
ACTIONS = ["set"] * 6 + ["add"] * 3 + ["beat"] * 4 + ["wait"] * 3 + ["work"] * 2
ACTIONS += ["end", "delete", "dead"]

Shown = dict[tuple[str, str], float]


@dataclass
class Living:
    """A process: its client, what it has set, and when it was last heard of."""

    metrics: Metrics
    process: Process
    values: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    heard: float = 0.0
    ended: bool = False


class World:
    """Some processes and a worker on one server, and what they must show."""

    def __init__(self, server: Server, namespace: str, seed: int) -> None:
        self.server, self.namespace = server, namespace
        self.draw = random.Random(seed)
        self.running: Living | None = None
        self.all: list[Living] = []
        self.worker = new_worker(server.url, namespace)
        for _ in range(3):
            self.begin()

    def this_process(self) -> Process:
        assert self.running is not None
        return self.running.process

    def begin(self) -> None:
        metrics = Metrics(
            self.server.url,
            namespace=self.namespace,
            flush_interval=NEVER,
            clock=lambda: self.server.time,
        )
        for mode in MERGE_MODES:
            metrics.declare(mode, "gauge", per="process", merge=mode)
        self.all.append(Living(metrics, Process(100 + len(self.all), b"a kernel", "web")))

    def alive(self) -> list[Living]:
        return [each for each in self.all if not each.ended]

    def act(self) -> None:
        action = self.draw.choice(ACTIONS)
        one = self.running = self.draw.choice(self.alive())
        # Each batch has a millisecond of its own, so that one value is the most recent.
        self.server.advance(0.01)
        getattr(self, action)(one)

    def set(self, one: Living) -> None:
        tag, value = self.draw.choice(TAGS), float(self.draw.randint(-9, 9))
        for mode in MERGE_MODES:
            one.metrics.gauge(mode, value, tags={"tag": tag})
            one.values[mode, tag] = value, self.server.time
        self.flush(one)

    def add(self, one: Living) -> None:
        tag, value = self.draw.choice(TAGS), float(self.draw.randint(-9, 9))
        for mode in MERGE_MODES:
            gauge = one.metrics.gauge(mode, per="process", merge=mode).with_tags(tag=tag)
            for _ in range(2):
                gauge.add(value)
            before, _ = one.values.get((mode, tag), (0.0, 0.0))
            one.values[mode, tag] = before + 2 * value, self.server.time
        self.flush(one)

    def flush(self, one: Living) -> None:
        one.metrics.flush()
        one.heard = self.server.time
        # What was not set now is heard of too.
        self.beat(one)

    def beat(self, one: Living) -> None:
        recorder = one.metrics._recorder
        later = recorder.steady_clock() + BEAT_SECONDS
        recorder.steady_clock = lambda: later
        assert one.metrics._sink._send_once(monotonic() + PATIENCE)
        one.heard = self.server.time

    def wait(self, one: Living) -> None:
        self.server.advance(self.draw.choice([3, 20, 45, 90]))

    def work(self, one: Living) -> None:
        with self.server.client() as admin:
            pull_forward(admin, self.namespace, also=("processes",))
        self.worker.pass_once()
        assert self.worker.counts.last_error is None

    def end(self, one: Living) -> None:
        one.metrics.close()
        one.ended, one.heard = True, self.server.time
        self.begin()

    def delete(self, one: Living) -> None:
        mode, tag = self.draw.choice(MERGE_MODES), self.draw.choice(TAGS)
        one.metrics.delete_series(mode, {"tag": tag})
        for each in self.all:
            each.values.pop((mode, tag), None)
        for each in self.alive():
            # Each learns it when it repeats its values.
            self.running = each
            self.beat(each)
            self.beat(each)

    def dead(self, one: Living) -> None:
        """It is not dead: it is heard of again."""
        one.metrics.mark_process_dead(one.process.pid, host="web")
        self.beat(one)

    def shown(self) -> Shown:
        found = {}
        for family in self.alive()[0].metrics.live():
            for row in family.series:
                key = "".join(value for _, value in sorted(row.tags.items()))
                found[family.name, key] = row.value
        return found

    def expected(self) -> Shown:
        now, found = self.server.time, {}
        for mode in MERGE_MODES:
            rule = mode.removeprefix("live")
            for tag in TAGS:
                held = [
                    (each, each.values[mode, tag])
                    for each in self.all
                    if (mode, tag) in each.values and (rule == mode or self.lives(each, now))
                ]
                if rule == "all":
                    for each, (value, _) in held:
                        found[mode, f"{each.process.pid}{tag}"] = value
                elif held:
                    values = [value for _, (value, _) in held]
                    newest = max(held, key=lambda each: each[1][1])[1][0]
                    merged = {"sum": sum(values), "min": min(values), "max": max(values)}
                    found[mode, tag] = {**merged, "mostrecent": newest}[rule]
        return found

    @staticmethod
    def lives(each: Living, now: float) -> bool:
        return not each.ended and now - each.heard <= GONE_MS / 1000

    def close(self) -> None:
        for each in self.all:
            self.running = each
            each.metrics.close(0.5)
        self.worker.leave()
        self.worker.store.close()


@pytest.mark.parametrize("seed", range(6))
def test_the_page_shows_what_an_oracle_expects(
    moving_server: Server, namespace: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(moving_server, namespace, seed)
    monkeypatch.setattr(own_values, "this_process", world.this_process)
    for step in range(60):
        world.act()
        assert world.shown() == world.expected(), f"seed {seed}, step {step}"
    world.close()
