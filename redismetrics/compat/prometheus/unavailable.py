"""Pages without Redis: the status is 503, whatever serves them.

`make_wsgi_app`, `make_asgi_app` and the HTTP servers of prometheus_client respond with it
themselves. An exporter that calls `generate_latest` in a view of Starlette, FastAPI or Flask raises
an error that its framework turns into this status; in Django and others, the status is 500.
"""

import sys
from typing import Any

from redismetrics.errors import StoreError, one_line

STATUS = 503
# Modules of frameworks, and their error classes with a status.
_FRAMEWORKS = (
    ("starlette.exceptions", "HTTPException"),
    ("werkzeug.exceptions", "HTTPException"),
)


def with_status(error: StoreError) -> StoreError:
    """Return an error like *error* that the frameworks in this process turn into status 503."""
    found = [getattr(sys.modules.get(module), name, None) for module, name in _FRAMEWORKS]
    bases: tuple[Any, ...] = (type(error), *(base for base in found if base is not None))
    if len(bases) == 1:
        return error
    raised: Any = type("PageUnavailable", bases, {"code": STATUS})
    made: Any = raised.__new__(raised, *error.args)
    made.args = error.args
    # Set by the constructors of Starlette and Werkzeug.
    made.status_code, made.detail, made.headers = STATUS, one_line(error), None
    made.description, made.response = one_line(error), None
    result: StoreError = made
    return result
