"""
Metrics over HTTP: JSON results, the Prometheus page, the live stream and, if enabled, recording.

`create_app` takes a client and returns an ASGI application; `Limits` bounds the cost of one
request. Needs the extra `server`.

    endpoint.py          the description of one endpoint
    parameters.py        query-string parameters
    query_endpoints.py   read; sse.py sends the live stream
    write_endpoints.py   record; request_body.py reads bodies, otlp_endpoint.py receives OTLP
    openapi.py           the OpenAPI document
    service.py           the client, thread pools and limits (limits.py) that all endpoints share
    app.py               the application: routes, errors, token and Host checks (auth.py)
    server.py            runs the application on uvicorn
"""

from redismetrics.errors import MissingExtra

try:
    import starlette
except ImportError as _error:
    raise MissingExtra("the HTTP API needs: pip install 'redismetrics[server]'") from _error
del starlette

from .app import create_app  # noqa: E402
from .limits import Limits  # noqa: E402

__all__ = ["Limits", "create_app"]
