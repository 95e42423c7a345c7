"""Capture what a block of code records, in memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, NoReturn

from redismetrics.client import base, default
from redismetrics.client.base import Client
from redismetrics.client.metrics import Metrics
from redismetrics.errors import StoreUnavailable
from redismetrics.model.time import Clock as ReadClock
from redismetrics.model.time import system_clock
from redismetrics.recording import flusher
from redismetrics.recording.flusher import Flusher
from redismetrics.recording.recorder import NullRecorder, Recorder
from redismetrics.settings import Settings
from redismetrics.store.connection import LoopClients, Store

from .captured import Captured, _Memory


@contextmanager
def capture(*, clock: ReadClock | None = None) -> Iterator[Captured]:
    """Keep in memory what this process records meanwhile, by whatever client; nothing is sent, no thread runs.

    The default client, handles that are bound already, clients that are made meanwhile, and those of ``none://`` are all
    captured. *clock* is the time of every client that has none of its own. Asking raises `StoreUnavailable`. Afterwards all is
    as it was, but metrics that were declared meanwhile stay so.
    """
    captured = Captured()
    with _in_memory(captured, clock), _without_a_store(), _default_restored(), _silent_ones_speak():
        try:
            yield captured
        finally:
            captured._end()


@contextmanager
def _in_memory(captured: Captured, clock: ReadClock | None) -> Iterator[None]:
    def make(of: Flusher) -> _Memory:
        if clock is not None and of.clock is system_clock:
            of.clock = of.recorder.clock = clock
        captured._memories.append(_Memory(of))
        return captured._memories[-1]

    before = list(flusher._flushers)
    saved = [_set_aside(each) for each in before]
    made_before, flusher.make_send_queue = flusher.make_send_queue, make
    try:
        for each in before:
            each._reset()
        yield
    finally:
        flusher.make_send_queue = made_before
        for each, (sending, recording) in zip(before, saved, strict=True):
            _put_back(each, sending, recording)
        for each in [each for each in flusher._flushers if each not in before]:
            _begin_anew(each, clock)


def _set_aside(of: Flusher) -> tuple[dict[str, Any], dict[str, Any]]:
    """Stop the threads of a flusher, and take all that it and its recorder hold."""
    of._stop.set()
    of._wake.set()
    of._hurry.set()
    for thread in of._threads:
        thread.join(of.settings.socket_timeout + 1)
    if not of.recorder.closed:
        of.collect(int(of.clock() * 1000))
    saved = dict(of.__dict__), dict(of.recorder.__dict__)
    of.worker = None
    of.recorder.reset()
    return saved


def _put_back(of: Flusher, sending: dict[str, Any], recording: dict[str, Any]) -> None:
    recorder = of.recorder
    recorder._unbind_all()
    declared = {name: metric for name, metric in recorder.metrics.items() if metric.declared}
    of.__dict__.update(sending)
    recorder.__dict__.update(recording)
    for name, metric in declared.items():
        if name not in recorder.metrics:
            recorder.declare(name, metric.definition)
    if not recorder.closed:
        of._stop, of._wake, of._hurry, of._threads = (
            threading.Event(),
            threading.Event(),
            threading.Event(),
            [],
        )
        recorder.start_again()
        if of.unsent():
            recorder.started = True
            of.start()
            of._wake.set()


def _begin_anew(of: Flusher, clock: ReadClock | None) -> None:
    """A client that was made during the capture is from now on as good as any."""
    if of.clock is clock:
        of.clock = of.recorder.clock = system_clock
    of._reset()
    of.recorder.reset()
    of.recorder.metrics = {
        name: metric for name, metric in of.recorder.metrics.items() if metric.declared
    }


@contextmanager
def _default_restored() -> Iterator[None]:
    before, arguments = default._client, default._arguments
    state = None if before is None else dict(before.__dict__)
    try:
        yield
    finally:
        default._arguments = arguments
        if before is not None and state is not None:
            before.__dict__.clear()
            before.__dict__.update(state)
        elif (
            default._client is not None
        ):  # decorated functions know it, so it stays, as it would be made now
            default._client._recorder._unbind_all()
            default._client._become(Metrics(*arguments[0], **arguments[1]))


@contextmanager
def _silent_ones_speak() -> Iterator[None]:
    """Let the clients of ``none://`` record, those that are made meanwhile too."""
    saved: list[tuple[Client, dict[str, Any]]] = []
    louds: dict[
        Recorder, Client
    ] = {}  # by the silent recorder whose place they take: those that share it share them
    silence: dict[Recorder, dict[str, Any]] = {}  # what stood in the place of a loud one
    first = Client.__init__

    def speak(one: Client) -> None:
        if not isinstance(one._recorder, NullRecorder):
            return  # a capture around this one let it
        before = dict(one.__dict__)
        saved.append((one, before))
        loud = louds.get(one._recorder)
        if loud is None:
            settings = {
                setting.name: getattr(one.settings, setting.name) for setting in fields(Settings)
            }
            loud = louds[one._recorder] = object.__new__(Metrics)
            first(
                loud, **{**settings, "url": "redis://captured.invalid"}, clock=one._recorder.clock
            )
            silence[loud._recorder] = before
        one._recorder._unbind_all()
        del (
            one.increment,
            one.gauge,
            one.histogram,
            one.record,
        )  # those of none:// that stand before the class's
        one._become(loud)
        one._own = before["_own"]

    def init(one: Client, *args: Any, **options: Any) -> None:
        first(one, *args, **options)
        before = silence.get(one._recorder)
        if before is not None:  # it shares one that speaks now
            saved.append((one, {**before, "_own": False}))
            base.silent.add(one)
        speak(one)

    for one in list(base.silent):
        speak(one)
    Client.__init__ = init  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Client.__init__ = first  # type: ignore[method-assign]
        for one, state in saved:
            one._recorder._unbind_all()
            one.__dict__.clear()
            one.__dict__.update(state)


@contextmanager
def _without_a_store() -> Iterator[None]:
    def away(_: object, **__: Any) -> NoReturn:
        raise StoreUnavailable(
            "a capture keeps what is recorded in memory: there is no store to ask"
        )

    async def aaway(_: object, **__: Any) -> NoReturn:
        away(_)

    before = Store.client, Store.connect, Store.reachable_url, Store.aconnect, LoopClients.client
    Store.client = Store.connect = Store.reachable_url = away  # type: ignore[method-assign, assignment]
    Store.aconnect = LoopClients.client = aaway  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Store.client, Store.connect, Store.reachable_url, *others = before  # type: ignore[method-assign]
        Store.aconnect, LoopClients.client = others  # type: ignore[method-assign, assignment]
