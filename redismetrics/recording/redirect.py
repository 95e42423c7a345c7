"""The hook for tests that replaces the sinks of all clients, including new clients."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from redismetrics.model.time import Clock, system_clock

from .recorder import Recorder
from .recorder_state import RecorderState
from .sink import Sink

MakeSink = Callable[[Recorder], Sink]


class _Redirect:
    """One replacement of all sinks, and the state needed to undo it."""

    def __init__(self, make_sink: MakeSink, clock: Clock | None) -> None:
        self._make_sink = make_sink
        self._clock = clock
        self._suspended: dict[Recorder, RecorderState] = {}
        # Recorders created in the meantime, with the sink that they would have.
        self._created: dict[Recorder, Sink] = {}

    def suspend(self, recorder: Recorder) -> None:
        recorder.sink.pause()
        self._suspended[recorder] = recorder.suspend()
        self._attach(recorder)

    def adopt(self, recorder: Recorder, own_sink: Sink) -> None:
        self._created[recorder] = own_sink
        self._attach(recorder)

    def _attach(self, recorder: Recorder) -> None:
        if self._clock is not None and recorder.clock is system_clock:
            recorder.clock = self._clock
        recorder.attach(self._make_sink(recorder))

    def undo(self) -> None:
        for recorder, state in self._suspended.items():
            recorder.resume(state)
            if not recorder.closed:
                recorder.sink.resume()
        for recorder, own_sink in self._created.items():
            if recorder.clock is self._clock:
                recorder.clock = system_clock
            recorder.reset(declared_only=True)
            attach_sink(recorder, own_sink)


_recorders: "weakref.WeakSet[Recorder]" = weakref.WeakSet()
# The innermost redirect is the last.
_redirects: list[_Redirect] = []


def attach_sink(recorder: Recorder, own_sink: Sink) -> None:
    """Give a new recorder its own sink, or the one from an active `redirect_sinks`."""
    _recorders.add(recorder)
    recorder.attach(own_sink)
    if _redirects:
        _redirects[-1].adopt(recorder, own_sink)


@contextmanager
def redirect_sinks(make_sink: MakeSink, clock: Clock | None = None) -> Iterator[None]:
    """Give each recorder of this process the sink that *make_sink* returns for it.

    Each recorder starts without samples, but with its definitions, and is open even if it was
    closed. Afterwards it continues with its own sink as if nothing had been recorded in between;
    only declarations are kept. *clock* is used by recorders without their own clock.
    """
    redirect = _Redirect(make_sink, clock)
    for recorder in list(_recorders):
        redirect.suspend(recorder)
    _redirects.append(redirect)
    try:
        yield
    finally:
        _redirects.remove(redirect)
        redirect.undo()
