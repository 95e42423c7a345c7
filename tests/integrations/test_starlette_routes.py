"""The route template of requests to Starlette and FastAPI."""

import warnings
from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.integrations import asgi
from redismetrics.testing import Captured
from tests.integrations.request_counts import request_counts

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning"
)

starlette = pytest.importorskip("starlette")
pytest.importorskip("httpx")
fastapi = pytest.importorskip("fastapi")

from starlette.applications import Starlette  # noqa: E402
from starlette.responses import PlainTextResponse  # noqa: E402
from starlette.routing import Mount, Route  # noqa: E402

with warnings.catch_warnings():
    # The test client warns if it finds httpx instead of its preferred package.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient


async def hello(request: Any) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def fails(request: Any) -> PlainTextResponse:
    raise ZeroDivisionError("mine")


class ForgetRoute:
    """Remove the route from the scope after the response, as Starlette does up to 1.0."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def forgetting(message: Any) -> None:
            scope.pop("route", None)
            await send(message)

        await self.app(scope, receive, forgetting)


@pytest.mark.parametrize("forgets", [False, True], ids=["route", "endpoint alone"])
@pytest.mark.parametrize("around", [False, True], ids=["added", "around"])
def test_starlette_routes_and_mounts(
    captured: Captured, offline_metrics: Metrics, forgets: bool, around: bool
) -> None:
    app = Starlette(
        routes=[
            Route("/", hello),
            Route("/users/{id:int}", hello, methods=["GET", "POST"]),
            Route("/fails", fails),
            Mount(
                "/shops/{shop}",
                routes=[
                    Route("/items/{item}", hello),
                    Mount("/deep", routes=[Route("/{x}", hello)]),
                ],
            ),
            Mount("/plain", app=PlainTextResponse("mounted")),
        ]
    )
    if forgets:
        app.add_middleware(ForgetRoute)
    whole: Any = app
    if around:
        whole = asgi.MetricsMiddleware(app, metrics=offline_metrics)
    else:
        app.add_middleware(asgi.MetricsMiddleware, metrics=offline_metrics)
    client = TestClient(whole, raise_server_exceptions=False)
    for path in (
        "/",
        "/users/1",
        "/users/2",
        "/shops/7/items/8",
        "/shops/9/items/8",
        "/shops/a/deep/b",
        "/plain/x/y",
    ):
        assert client.get(path).status_code == 200
    assert client.post("/users/1").status_code == 200
    assert client.put("/users/1").status_code == 405
    assert client.request("BREW", "/users/1").status_code == 405
    for number in range(20):
        assert client.get(f"/nobody/{number}").status_code == 404
    assert client.get("/fails").status_code == 500
    assert request_counts(captured) == {
        ("GET", "/", "200"): 1,
        ("GET", "/users/{id:int}", "200"): 2,
        ("GET", "/shops/{shop}/items/{item}", "200"): 2,
        ("GET", "/shops/{shop}/deep/{x}", "200"): 1,
        ("GET", "/plain", "200"): 1,
        ("POST", "/users/{id:int}", "200"): 1,
        ("PUT", "/users/{id:int}", "405"): 1,
        ("other", "/users/{id:int}", "405"): 1,
        ("GET", "unmatched", "404"): 20,
        ("GET", "/fails", "500"): 1,
    }


def test_fastapi_routers_and_mounts(captured: Captured, offline_metrics: Metrics) -> None:
    items = fastapi.APIRouter(prefix="/items")

    @items.get("/{id}")
    def item(id: int) -> dict[str, int]:
        return {"id": id}

    inner = fastapi.FastAPI()
    inner.include_router(items, prefix="/in")
    app = fastapi.FastAPI()
    outer = fastapi.APIRouter(prefix="/v2/{tenant}")
    outer.include_router(items)
    app.include_router(items, prefix="/v1")
    app.include_router(outer)
    app.mount("/sub/{shop}", inner)
    app.add_middleware(asgi.MetricsMiddleware, metrics=offline_metrics)
    client = TestClient(app)
    for path in (
        "/v1/items/1",
        "/v1/items/2",
        "/v2/cns/items/3",
        "/sub/de/in/items/4",
        "/v1/items/none",
        "/sub/de/nobody",
    ):
        client.get(path)
    client.delete("/v1/items/1")
    assert request_counts(captured) == {
        ("GET", "/v1/items/{id}", "200"): 2,
        ("GET", "/v2/{tenant}/items/{id}", "200"): 1,
        ("GET", "/sub/{shop}/in/items/{id}", "200"): 1,
        ("GET", "/v1/items/{id}", "422"): 1,
        ("GET", "/sub/{shop}", "404"): 1,
        ("DELETE", "/v1/items/{id}", "405"): 1,
    }
