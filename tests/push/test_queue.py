"""The queue of a target: order, repeats, bounds, and what is counted."""

import threading
from collections.abc import Callable, Iterator

import pytest

from redismetrics.alerts.notify.http import SendingFailed
from redismetrics.push.queue import PushQueue
from redismetrics.push.request import PushRequest
from redismetrics.recording.backoff import Backoff
from tests.fixtures.servers import PATIENCE, wait_until

AT_ONCE = Backoff(first=0.0, longest=0.0)
NEVER = Backoff(first=3_600.0, longest=3_600.0)


class Target:
    """Takes requests while it is open; *failures* of them fail, *refused* samples are refused."""

    def __init__(self) -> None:
        self.taken: list[PushRequest] = []
        self.attempts: list[PushRequest] = []
        self.failures = self.refused = 0
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Semaphore(0)

    def send(self, request: PushRequest) -> tuple[int, str]:
        self.attempts.append(request)
        self.entered.release()
        assert self.open.wait(PATIENCE)
        if self.failures:
            self.failures -= 1
            raise SendingFailed("answered 503")
        self.taken.append(request)
        return self.refused, "out of order"


Make = Callable[..., PushQueue]


@pytest.fixture
def make() -> Iterator[Make]:
    queues: list[PushQueue] = []

    def make(target: Target, max_bytes: int = 1000, backoff: Backoff = AT_ONCE) -> PushQueue:
        queues.append(PushQueue("there", target.send, max_bytes=max_bytes, backoff=backoff))
        return queues[-1]

    yield make
    for queue in queues:
        queue.stop(PATIENCE)


def request(number: int, size: int = 10) -> PushRequest:
    return PushRequest(bytes([number]) * size, 3, 1000 * number)


def test_a_request_that_fails_is_repeated_and_not_overtaken(make: Make) -> None:
    target = Target()
    target.failures = 2
    queue = make(target)
    for number in range(3):
        queue.put(request(number))
    assert queue.wait_until_empty(PATIENCE)
    assert target.attempts == [request(0), request(0), request(0), request(1), request(2)]
    assert target.taken == [request(0), request(1), request(2)]
    assert (queue.counts.sent, queue.counts.failures, queue.counts.dropped) == (9, 2, 0)
    assert queue.last_error == ""


def test_the_oldest_requests_are_dropped_and_counted(make: Make) -> None:
    target = Target()
    target.open.clear()
    queue = make(target, max_bytes=25)
    queue.put(request(0))
    assert target.entered.acquire(timeout=PATIENCE)
    for number in range(1, 6):
        queue.put(request(number))
    # The one in hand is not counted in the bound.
    assert (queue.waiting_bytes, queue.oldest_ms) == (30, 0)
    assert queue.counts.dropped == 3 * 3
    target.open.set()
    assert queue.wait_until_empty(PATIENCE)
    assert target.taken == [request(0), request(4), request(5)]
    assert queue.oldest_ms is None


def test_the_newest_request_is_kept_however_large_it_is(make: Make) -> None:
    target = Target()
    queue = make(target, max_bytes=5)
    queue.put(request(1, size=100))
    assert queue.wait_until_empty(PATIENCE)
    assert target.taken == [request(1, size=100)]


def test_refused_samples_are_counted_and_the_next_request_is_sent(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    target = Target()
    target.refused = 2
    queue = make(target)
    queue.put(request(0))
    queue.put(request(1))
    assert queue.wait_until_empty(PATIENCE)
    assert (queue.counts.sent, queue.counts.refused) == (2, 4)
    # Once, since it is the same reason.
    assert caplog.text.count("there rejected 2 of 3 samples: out of order") == 1


def test_the_end_tries_once_more_and_drops_the_rest(make: Make) -> None:
    target = Target()
    target.failures = 2
    queue = make(target, backoff=NEVER)
    for number in range(3):
        queue.put(request(number))
    assert target.entered.acquire(timeout=PATIENCE)
    queue.stop(PATIENCE)
    assert target.attempts == [request(0), request(0)]
    assert (queue.counts.sent, queue.counts.dropped) == (0, 9)


def test_the_end_sends_what_waits(make: Make) -> None:
    target = Target()
    queue = make(target)
    for number in range(20):
        queue.put(request(number))
    queue.stop(PATIENCE)
    assert target.taken == [request(number) for number in range(20)]


def test_waiting_requests_are_dropped_when_another_process_takes_over(make: Make) -> None:
    target = Target()
    target.open.clear()
    queue = make(target)
    for number in range(3):
        queue.put(request(number))
    assert target.entered.acquire(timeout=PATIENCE)
    queue.clear()
    target.open.set()
    assert queue.wait_until_empty(PATIENCE)
    assert target.taken == [request(0)]
    assert queue.counts.dropped == 6


def test_an_internal_error_does_not_end_the_thread(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    target = Target()
    queue = make(target)
    good = target.send

    def fail(request: PushRequest) -> tuple[int, str]:
        raise KeyError("x")

    queue._send = fail
    queue.put(request(0))
    assert queue.wait_until_empty(PATIENCE)
    queue._send = good
    queue.put(request(1))
    assert queue.wait_until_empty(PATIENCE)
    assert (queue.counts.refused, queue.counts.sent) == (3, 3)
    assert "BUG: there: a request cannot be sent" in caplog.text


def test_a_request_that_fails_is_dropped_when_another_process_takes_over(make: Make) -> None:
    target = Target()
    target.failures = 1
    target.open.clear()
    queue = make(target, backoff=NEVER)
    queue.put(request(0))
    assert target.entered.acquire(timeout=PATIENCE)
    queue.clear()
    target.open.set()
    assert queue.wait_until_empty(PATIENCE)
    queue.put(request(1))
    assert queue.wait_until_empty(PATIENCE)
    assert target.attempts == [request(0), request(1)]
    assert (queue.counts.sent, queue.counts.dropped) == (3, 3)


def test_taking_over_ends_the_pause_of_a_failing_request(make: Make) -> None:
    target = Target()
    target.failures = 1
    queue = make(target, backoff=NEVER)
    queue.put(request(0))
    wait_until(lambda: queue.last_error, "it failed")
    queue.clear()
    assert queue.wait_until_empty(PATIENCE)
    assert target.attempts == [request(0)]
