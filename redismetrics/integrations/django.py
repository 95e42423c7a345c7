"""Django middleware: requests and durations by URL pattern, under WSGI and ASGI.

MIDDLEWARE = ["redismetrics.integrations.django.MetricsMiddleware", ...]     # first
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from time import perf_counter
from typing import Any

from .request_metrics import RequestMetrics
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

    An exception counts as status 500 and is re-raised. Records with the default client; a subclass
    can set another client (`metrics`) and another `prefix` of the names.
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
        began = perf_counter()
        if self._is_async:
            return self._serve_async(request, began)
        try:
            response = self.get_response(request)
        except BaseException:
            self._finish(request, began, 500)
            raise
        return self._watch(request, response, began)

    async def _serve_async(self, request: Any, began: float) -> Any:
        coroutine: Awaitable[Any] = self.get_response(request)
        try:
            response = await coroutine
        except BaseException:
            self._finish(request, began, 500)
            raise
        return self._watch(request, response, began)

    def _finish(self, request: Any, began: float, status: int) -> None:
        endpoint = self._requests.endpoint(lambda: url_pattern(request))
        self._requests.finish(began, request.method, endpoint, status)

    def _watch(self, request: Any, response: Any, began: float) -> Any:
        """Return *response*; record the request now, or at the end of a streaming response."""
        if not getattr(response, "streaming", False):
            self._finish(request, began, response.status_code)
            return response

        def finish(failed: bool) -> None:
            self._finish(request, began, 500 if failed else response.status_code)

        body = AsyncResponseBody if response.is_async else ResponseBody
        response.streaming_content = body(response.streaming_content, finish)
        return response


def url_pattern(request: Any) -> str | None:
    """Return the pattern by which Django found the view, such as ``/users/<int:id>/``."""
    match = request.resolver_match
    return None if match is None else f"/{str(match.route).removeprefix('^').removeprefix('/')}"


class AsyncResponseBody(ResponseBody):
    """`ResponseBody` of an asynchronous response. Django closes both kinds in the same way."""

    def __init__(self, chunks: AsyncIterable[bytes], finish: Callable[[bool], None]) -> None:
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
            self.finish(False)
            raise
        except BaseException:
            self.finish(True)
            raise
