"""Django middleware: requests and durations by the pattern of the URL, under WSGI and ASGI.

MIDDLEWARE = ["redismetrics.integrations.django.MetricsMiddleware", ...]     # first
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from time import perf_counter
from typing import Any

from .common import Requests
from .wsgi import Body

try:
    from asgiref.sync import iscoroutinefunction, markcoroutinefunction
except ImportError as error:
    from redismetrics.errors import MissingExtra

    raise MissingExtra(
        "Django's middleware needs Django: pip install 'redismetrics[django]'"
    ) from error


class MetricsMiddleware:
    """Counts HTTP requests and how long they take, until the last chunk of the answer; records with the default client.

    An exception counts as status 500 and goes on. A subclass with another `metrics` or `prefix` uses those.
    """

    sync_capable = True
    async_capable = True
    metrics: Any = None
    prefix = "http"

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response
        self._requests = Requests(self.metrics, self.prefix)
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """Serve one request; a coroutine where Django is asynchronous."""
        began = perf_counter()
        if self._is_async:
            return self._answer(request, began)
        try:
            response = self.get_response(request)
        except BaseException:
            self._finished(request, began, 500)
            raise
        return self._watched(request, response, began)

    async def _answer(self, request: Any, began: float) -> Any:
        answer: Awaitable[Any] = self.get_response(request)
        try:
            response = await answer
        except BaseException:
            self._finished(request, began, 500)
            raise
        return self._watched(request, response, began)

    def _finished(self, request: Any, began: float, status: int) -> None:
        endpoint = self._requests.endpoint(lambda: pattern_of(request))
        self._requests.finished(began, request.method, endpoint, status)

    def _watched(self, request: Any, response: Any, began: float) -> Any:
        if not getattr(response, "streaming", False):
            self._finished(request, began, response.status_code)
            return response

        def finish(failed: bool) -> None:
            self._finished(request, began, 500 if failed else response.status_code)

        if response.is_async:
            response.streaming_content = AsyncBody(response.streaming_content, finish)
        else:
            response.streaming_content = Body(response.streaming_content, finish)
        return response


def pattern_of(request: Any) -> str | None:
    """The pattern by which Django found the view, such as ``/users/<int:id>/``."""
    match = request.resolver_match
    return None if match is None else f"/{str(match.route).removeprefix('^').removeprefix('/')}"


class AsyncBody(Body):
    """`Body` of an asynchronous answer; Django closes it as it closes the other."""

    def __init__(self, chunks: AsyncIterable[bytes], finish: Callable[[bool], None]) -> None:
        super().__init__((), finish)
        self._of = aiter(chunks)

    __iter__ = None  # type: ignore[assignment]  # Django asks by it which kind this is

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._of)
        except StopAsyncIteration:
            self._end(False)
            raise
        except BaseException:
            self._end(True)
            raise
