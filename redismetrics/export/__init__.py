"""The Prometheus page: as text, as a WSGI or ASGI application, or by `python -m redismetrics.export`."""

from redismetrics.exposition.text import content_type, render

from .prometheus import asgi_app, export, negotiate, wsgi_app

__all__ = ["asgi_app", "content_type", "export", "negotiate", "render", "wsgi_app"]
