"""
Metrics over HTTP: JSON answers, the Prometheus page, the live stream, and, where writing is switched on, recording.

    parameters.py   what a query string may hold: checked, and described for the OpenAPI document, from one table
    questions.py    the endpoints that ask          writing.py   those that record          sse.py   the live stream
    openapi.py      the document                    app.py       all of it joined: limits, token, errors
    serving.py      the application on uvicorn, until it is stopped

Needs the extra `server`: ``from redismetrics.api.app import create_app``.
"""

from redismetrics.errors import MissingExtra

try:
    import starlette
except ImportError as _error:
    raise MissingExtra("the HTTP API needs: pip install 'redismetrics[server]'") from _error
del starlette
