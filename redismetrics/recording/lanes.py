"""Run operations on several shards concurrently, so that none waits for another's node.

All Python code of the operations runs in the thread that calls `start` and `next_end`. Only their
round trips run in other threads: one per node of the cluster, each with one connection.
"""

import threading
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from redismetrics.errors import StoreError
from redismetrics.store.cluster import ClusterClient
from redismetrics.store.cluster_routing import Address, Command, slot_of
from redismetrics.store.driver import Operation, Overlapped, sendable


@dataclass(slots=True)
class _Trip:
    """One round trip of an operation: its commands, then their replies or an error."""

    number: int
    steps: Operation[None]
    commands: list[Command] = field(default_factory=list)
    replies: list[Any] = field(default_factory=list)
    error: Exception | None = None


_Jobs = SimpleQueue[_Trip | None]
_Done = SimpleQueue[_Trip | None]


class Lanes:
    """Runs numbered operations on the nodes of one cluster."""

    def __init__(self, client: ClusterClient) -> None:
        self._client = client
        self._jobs: dict[Address | None, _Jobs] = {}
        self._threads: list[threading.Thread] = []
        self._done: _Done = SimpleQueue()
        self._running: dict[int, Operation[None]] = {}
        # Operations that ended without a round trip, or at the start.
        self._ended: list[tuple[int, StoreError | None]] = []

    def running(self) -> list[int]:
        """Return the numbers of all unfinished operations."""
        return list(self._running)

    def is_running(self, number: int) -> bool:
        return number in self._running

    def start(self, number: int, operation: Operation[None]) -> None:
        """Run *operation* up to its first round trip. Its number must not be in use."""
        steps = sendable(operation)
        self._running[number] = steps
        self._step(_Trip(number, steps), is_first=True)

    def next_end(self, timeout: float | None) -> tuple[int, StoreError | None] | None:
        """Wait until an operation ends; return its number, and its error if it failed.

        Return None after *timeout* seconds, or as soon as `wake` is called.
        """
        while not self._ended:
            try:
                trip = self._done.get(timeout=timeout)
            except Empty:
                return None
            if trip is None:
                return None
            self._step(trip)
        return self._ended.pop()

    def wake(self) -> None:
        """Make `next_end` return. Any thread may call this."""
        self._done.put(None)

    def stop(self) -> None:
        """Abandon all operations, and stop the threads. The client has already been closed."""
        for jobs in self._jobs.values():
            jobs.put(None)
        for steps in self._running.values():
            steps.close()
        self._running.clear()
        self._ended.clear()
        for thread in self._threads:
            # A thread waiting for a node ends when the node replies or times out.
            thread.join(0.05)

    def _step(self, trip: _Trip, *, is_first: bool = False) -> None:
        """Resume an operation with the replies of its last round trip, up to the next one."""
        failure: StoreError | None = None
        try:
            if is_first:
                commands = next(trip.steps)
            elif trip.error is not None:
                commands = trip.steps.throw(trip.error)
            else:
                commands = trip.steps.send(trip.replies)
            self._send(_Trip(trip.number, trip.steps, commands))
            return
        except StopIteration:
            pass
        except StoreError as error:
            failure = error
        except BaseException:
            self._running.pop(trip.number, None)
            raise
        self._running.pop(trip.number, None)
        self._ended.append((trip.number, failure))

    def _send(self, trip: _Trip) -> None:
        slots = (slot_of(command) for command in trip.commands)
        slot = next((slot for slot in slots if slot is not None), None)
        node = None if slot is None else self._client.nodes.owner(slot)
        if node not in self._jobs:
            self._jobs[node] = SimpleQueue()
            thread = threading.Thread(
                target=_send_all,
                args=(self._client, self._jobs[node], self._done),
                name="redismetrics-node",
                daemon=True,
            )
            try:
                thread.start()
                self._threads.append(thread)
            except RuntimeError:  # the interpreter is ending: no thread can start any more
                del self._jobs[node]
                _send_together(self._client, [trip], self._done)
                return
        self._jobs[node].put(trip)
        if isinstance(trip.commands, Overlapped):
            trip.commands.meanwhile()


def _send_all(client: ClusterClient, jobs: _Jobs, done: _Done) -> None:
    """Make the round trips to one node, one after another, until None is received."""
    while True:
        trips = [jobs.get()]
        while not jobs.empty():
            trips.append(jobs.get())
        if None in trips:
            return
        _send_together(client, [trip for trip in trips if trip is not None], done)


def _send_together(client: ClusterClient, trips: list[_Trip], done: _Done) -> None:
    """Combine several round trips into one."""
    try:
        replies = client.send([command for trip in trips for command in trip.commands])
    # An error from redis-py, or of any kind if the client has been closed in the meantime.
    except Exception as error:  # noqa: BLE001
        for trip in trips:
            trip.error = error
    else:
        at = 0
        for trip in trips:
            trip.replies = replies[at : at + len(trip.commands)]
            at += len(trip.commands)
            errors = (reply for reply in trip.replies if isinstance(reply, Exception))
            trip.error = next(errors, None)
    for trip in trips:
        done.put(trip)
