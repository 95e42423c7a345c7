"""The views of the Django application in test_frameworks.py."""

from collections.abc import AsyncIterator
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from django.urls import include, path, re_path
from django.views.decorators.http import require_GET


@require_GET
def hello(request: Any, **_: Any) -> HttpResponse:
    return HttpResponse("hello")


def fails(request: Any) -> HttpResponse:
    raise ZeroDivisionError("mine")


async def _chunks() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield b"x"


def stream(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(_chunks() if "async" in request.GET else iter([b"x"] * 3))


urlpatterns = [
    path("users/<int:id>/", hello),
    re_path(r"^old/(?P<slug>[a-z]+)/$", hello),
    path("shop/", include([path("items/<item>", hello)])),
    path("fails", fails),
    path("stream", stream),
]
