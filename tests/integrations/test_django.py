"""The Django middleware, synchronous and asynchronous."""

import asyncio
from typing import Any

import pytest

from redismetrics.integrations import wsgi
from redismetrics.testing import Captured
from tests.integrations.request_counts import request_counts

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning"
)

django = pytest.importorskip("django")


@pytest.fixture(scope="module")
def django_() -> Any:
    """A Django that is configured for this process, with the views of `django_urls`."""
    from django.conf import settings

    if not settings.configured:
        settings.configure(
            ROOT_URLCONF="tests.fixtures.django_urls",
            ALLOWED_HOSTS=["*"],
            SECRET_KEY="x",
            DEBUG=False,
            MIDDLEWARE=["redismetrics.integrations.django.MetricsMiddleware"],
        )
        django.setup()
    return django


EXPECTED = {
    ("GET", "/users/<int:id>/", "200"): 2,
    ("POST", "/users/<int:id>/", "405"): 1,
    ("GET", "/old/(?P<slug>[a-z]+)/$", "200"): 1,
    ("GET", "/shop/items/<item>", "200"): 1,
    ("GET", "/stream", "200"): 1,
    ("GET", "/fails", "500"): 1,
    ("GET", "unmatched", "404"): 1,
}


def test_django_sync(captured: Captured, django_: Any) -> None:
    from django.test import Client

    client = Client(raise_request_exception=False)
    for path in ("/users/1/", "/users/2/", "/old/abc/", "/shop/items/9", "/fails", "/nobody"):
        client.get(path)
    client.post("/users/1/")
    before = request_counts(captured)
    response = client.get("/stream")
    assert request_counts(captured) == before
    assert b"".join(response) == b"xxx"
    assert request_counts(captured) == EXPECTED


def test_django_async(captured: Captured, django_: Any) -> None:
    from django.test import AsyncClient

    async def ask() -> None:
        client = AsyncClient(raise_request_exception=False)
        for path in ("/users/1/", "/users/2/", "/old/abc/", "/shop/items/9", "/fails", "/nobody"):
            await client.get(path)
        await client.post("/users/1/")
        before = request_counts(captured)
        response = await client.get("/stream?async=1")
        assert response.is_async
        assert request_counts(captured) == before
        assert b"".join([chunk async for chunk in response]) == b"xxx"

    asyncio.run(ask())
    assert request_counts(captured) == EXPECTED


def test_middleware_around_django_counts_a_request_once(captured: Captured, django_: Any) -> None:
    from wsgiref.util import setup_testing_defaults

    from django.core.wsgi import get_wsgi_application

    app = wsgi.MetricsMiddleware(get_wsgi_application())
    environ: dict[str, Any] = {"PATH_INFO": "/users/1/"}
    setup_testing_defaults(environ)
    assert list(app(environ, lambda *_: lambda _: None))
    assert request_counts(captured) == {("GET", "/users/<int:id>/", "200"): 1}
