"""Django middleware: requests and durations by URL pattern, under WSGI and ASGI.

MIDDLEWARE = ["redismetrics.integrations.django.MetricsMiddleware", ...]     # first
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from time import perf_counter
from typing import Any, NamedTuple

from .request_metrics import OngoingRequest, RequestMetrics, error_status
from .wsgi import ResponseBody

try:
    from asgiref.sync import iscoroutinefunction, markcoroutinefunction
except ImportError as error:
    from redismetrics.errors import MissingExtra

    raise MissingExtra(
        "Django's middleware needs Django: pip install 'redismetrics[django]'"
    ) from error


class MetricsMiddleware:
    """Counts HTTP requests and measures them until the last chunk of the response.

    An exception counts as status 500, a cancelled request as 499, and both are re-raised. A request
    counts once, even if middleware around Django records it too. Records with the default client; a
    subclass can set another client (`metrics`) and another name `prefix`.
    """

    sync_capable = True
    async_capable = True
    metrics: Any = None
    prefix = "http"

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response
        self._requests = RequestMetrics(self.metrics, self.prefix)
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """Serve one request; return a coroutine if Django is asynchronous."""
        served = _Served(request, perf_counter(), self._requests.begin(_carrier(request)))
        if self._is_async:
            return self._serve_async(served)
        try:
            response = self.get_response(request)
        except BaseException as error:
            self._finish(served, error_status(error))
            raise
        return self._watch(served, response)

    async def _serve_async(self, served: "_Served") -> Any:
        coroutine: Awaitable[Any] = self.get_response(served.request)
        try:
            response = await coroutine
        except BaseException as error:
            self._finish(served, error_status(error))
            raise
        return self._watch(served, response)

    def _finish(self, served: "_Served", status: int) -> None:
        request, ongoing = served.request, served.ongoing
        endpoint = self._requests.endpoint(lambda: url_pattern(request))
        if ongoing is None:
            self._requests.set_inner_endpoint(_carrier(request), endpoint)
        else:
            self._requests.finish(
                served.began, request.method, endpoint or ongoing.endpoint, status
            )

    def _watch(self, served: "_Served", response: Any) -> Any:
        """Return *response*; record the request now, or at the end of a streaming response."""
        if served.ongoing is None or not getattr(response, "streaming", False):
            self._finish(served, response.status_code)
            return response

        def finish(failure: int | None) -> None:
            self._finish(served, failure or response.status_code)

        body = AsyncResponseBody if response.is_async else ResponseBody
        response.streaming_content = body(response.streaming_content, finish)
        return response


class _Served(NamedTuple):
    """A request, the `perf_counter` at its start, and None if other middleware records it."""

    request: Any
    began: float
    ongoing: OngoingRequest | None


def _carrier(request: Any) -> Any:
    """Return the object that middleware around Django shares: the ASGI scope, or the environ."""
    scope = getattr(request, "scope", None)
    return request.META if scope is None else scope


def url_pattern(request: Any) -> str | None:
    """Return the URL pattern that matched the view, such as ``/users/<int:id>/``."""
    match = request.resolver_match
    return None if match is None else f"/{str(match.route).removeprefix('^').removeprefix('/')}"


class AsyncResponseBody(ResponseBody):
    """`ResponseBody` for asynchronous responses. Django closes both kinds in the same way."""

    def __init__(self, chunks: AsyncIterable[bytes], finish: Callable[[int | None], None]) -> None:
        super().__init__((), finish)
        self._async_iterator = aiter(chunks)

    # Django checks for this method to tell the two kinds apart.
    __iter__ = None  # type: ignore[assignment]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._async_iterator)
        except StopAsyncIteration:
            self.finish(None)
            raise
        except BaseException as error:
            self.finish(error_status(error))
            raise
