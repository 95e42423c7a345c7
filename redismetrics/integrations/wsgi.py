"""WSGI middleware: requests and durations of Flask and other WSGI applications.

app.wsgi_app = MetricsMiddleware(app.wsgi_app)     # Flask
application = MetricsMiddleware(application)       # any other
"""

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import Any

from redismetrics.recording.methods import Recording

from .request_metrics import FAILED, RequestMetrics, error_status

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
App = Callable[[Environ, StartResponse], Iterable[bytes]]


class MetricsMiddleware:
    """Counts HTTP requests and measures them until the last chunk or the close of the response.

    An exception counts as status 500 and is re-raised. A request counts once, even if a mounted
    application also has this middleware. Nothing here raises or blocks.

    Args:
        app: The application to wrap.
        metrics: The client; by default the default client.
        prefix: Prefix of the names ``<prefix>_requests`` and ``<prefix>_request_duration_seconds``.
        endpoint: Returns the route template for an environ, when the response starts. None or ""
            means that there is no route; so does an exception before the response starts. By
            default, the rule of Flask is used.
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
        self._requests = RequestMetrics(metrics, prefix)
        self._endpoint = flask_rule if endpoint is None else endpoint

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        began, status = perf_counter(), FAILED
        ongoing = self._requests.begin(environ)
        endpoint: str | None = None

        def start(status_line: str, *rest: Any) -> Callable[[bytes], object]:
            nonlocal status, endpoint
            status = _status_code(status_line)
            # Now, because Flask forgets the rule after the response.
            endpoint = self._requests.endpoint(lambda: self._endpoint(environ))
            if ongoing is None:
                self._requests.set_inner_endpoint(environ, endpoint)
            return start_response(status_line, *rest)

        def finish(failure: int | None) -> None:
            if ongoing is not None:
                method = str(environ.get("REQUEST_METHOD"))
                template = endpoint or ongoing.endpoint
                self._requests.finish(began, method, template, failure or status)

        try:
            chunks = self.app(environ, start)
        except BaseException as error:
            finish(error_status(error))
            raise
        # The whole response. Pass on the list itself: servers compute its length.
        if isinstance(chunks, list | tuple):
            finish(None)
            return chunks
        return ResponseBody(chunks, finish)


def _status_code(status_line: str) -> int:
    try:
        return int(status_line[:3])
    except ValueError:
        return 0


def flask_rule(environ: Environ) -> str | None:
    """Return the Flask rule that matched the request, such as ``/users/<int:id>``."""
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    return None if rule is None else str(rule.rule)


class ResponseBody:
    """The chunks of a response, unchanged.

    Calls *finish* once: with None after the last chunk or on close, or with the status of the error
    if a chunk fails.
    """

    def __init__(self, chunks: Iterable[bytes], finish: Callable[[int | None], None]) -> None:
        self._chunks = chunks
        self._iterator: Iterator[bytes] | None = None
        self._finish_once = finish
        self._finished = False

    def finish(self, failure: int | None) -> None:
        """Call *finish*, unless that has already been done."""
        if not self._finished:
            self._finished = True
            self._finish_once(failure)

    def __iter__(self) -> "ResponseBody":
        return self

    def __next__(self) -> bytes:
        try:
            if self._iterator is None:
                self._iterator = iter(self._chunks)
            return next(self._iterator)
        except StopIteration:
            self.finish(None)
            raise
        except BaseException as error:
            self.finish(error_status(error))
            raise

    def close(self) -> None:
        """Close the chunks. The server calls this at the end, however much it has read."""
        try:
            close = getattr(self._chunks, "close", None)
            if close is not None:
                close()
        except BaseException as error:
            self.finish(error_status(error))
            raise
        self.finish(None)
