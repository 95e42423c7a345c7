"""
Metrics over HTTP: JSON answers, the Prometheus page, the live stream, and, where writing is switched on, recording.

    parameters.py   what a query string may hold: checked, and described for the OpenAPI document, from one table
    query_endpoints.py, write_endpoints.py   the endpoints; request_body.py reads bodies, sse.py streams
    openapi.py      the OpenAPI document
    app.py          all of it joined: limits, token and Host checks (auth.py), errors
    server.py       the application on uvicorn, until it is stopped

Needs the extra `server`: ``from redismetrics.api import create_app``.
"""

from redismetrics.errors import MissingExtra

try:
    import starlette
except ImportError as _error:
    raise MissingExtra("the HTTP API needs: pip install 'redismetrics[server]'") from _error
del starlette

from .app import create_app  # noqa: E402
from .service import Limits  # noqa: E402

__all__ = ["Limits", "create_app"]
