"""WSGI middleware: requests and durations of Flask and whatever else speaks WSGI.

app.wsgi_app = MetricsMiddleware(app.wsgi_app)     # Flask
application = MetricsMiddleware(application)       # any other
"""

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import Any

from redismetrics.recording.methods import Recording

from .common import Requests

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
App = Callable[[Environ, StartResponse], Iterable[bytes]]


class MetricsMiddleware:
    """Counts HTTP requests and how long they take, until the last chunk of the answer was taken, or it was closed.

    An exception counts as status 500 and goes on. Nothing here raises or waits.

    Args:
        app: the application around which this stands.
        metrics: the client; the default one when None.
        prefix: of the metrics' names, ``<prefix>_requests`` and ``<prefix>_request_duration_seconds``.
        endpoint: gives the template of the route from the environ, when the answer starts; by default the rule that Flask
            found. None or "" means that no route took it, and so does an exception that no answer comes of.
    """

    def __init__(
        self,
        app: App,
        *,
        metrics: Recording | None = None,
        prefix: str = "http",
        endpoint: Callable[[Environ], str | None] | None = None,
    ) -> None:
        self.app = app
        self._requests = Requests(metrics, prefix)
        self._endpoint = rule_of if endpoint is None else endpoint

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        began, status = perf_counter(), 500
        endpoint: str | None = None

        def started(line: str, *rest: Any) -> Callable[[bytes], object]:
            nonlocal status, endpoint
            status = _code(line)
            endpoint = self._requests.endpoint(
                lambda: self._endpoint(environ)
            )  # now: Flask forgets it soon after
            return start_response(line, *rest)

        def finish(failed: bool) -> None:
            method = str(environ.get("REQUEST_METHOD"))
            self._requests.finished(began, method, endpoint, 500 if failed else status)

        try:
            body = self.app(environ, started)
        except BaseException:
            finish(True)
            raise
        if isinstance(body, list | tuple):  # all of it is there; a server looks at the length
            finish(False)
            return body
        return Body(body, finish)


def _code(line: str) -> int:
    try:
        return int(line[:3])
    except ValueError:
        return 0


def rule_of(environ: Environ) -> str | None:
    """The rule by which Flask found the view, such as ``/users/<int:id>``."""
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    return None if rule is None else str(rule.rule)


class Body:
    """An answer's chunks as they are; calls *finish* once: after the last one, when one fails (True), or when it is closed."""

    def __init__(self, chunks: Iterable[bytes], finish: Callable[[bool], None]) -> None:
        self._chunks = chunks
        self._next: Iterator[bytes] | None = None
        self._finish = finish
        self._finished = False

    def _end(self, failed: bool) -> None:
        if not self._finished:
            self._finished = True
            self._finish(failed)

    def __iter__(self) -> "Body":
        return self

    def __next__(self) -> bytes:
        try:
            if self._next is None:
                self._next = iter(self._chunks)
            return next(self._next)
        except StopIteration:
            self._end(False)
            raise
        except BaseException:
            self._end(True)
            raise

    def close(self) -> None:
        """What the server calls at the end, whatever it took."""
        try:
            close = getattr(self._chunks, "close", None)
            if close is not None:
                close()
        except BaseException:
            self._end(True)
            raise
        self._end(False)
