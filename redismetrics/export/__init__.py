"""The Prometheus page as text, as a WSGI or ASGI application, and on the command line.

In: what clients read from Redis. Out: Prometheus or OpenMetrics text.
"""

from redismetrics.exposition.text import content_type, render

from .prometheus import asgi_app, export, negotiate, wsgi_app

__all__ = ["asgi_app", "content_type", "export", "negotiate", "render", "wsgi_app"]
