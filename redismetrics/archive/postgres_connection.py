"""Connect to PostgreSQL."""

from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

# How long to wait for a server that is gone, in ms, and after how many idle seconds to probe it.
_GONE_MS, _IDLE_SECONDS = 60_000, 10


def connect(
    url: str, name: str, timeout: float, options: str = ""
) -> "psycopg.Connection[tuple[Any, ...]]":
    """Connect to *url* as the application *name*; *options* are added to those of the URL."""
    given = conninfo_to_dict(url).get("options") or ""
    return psycopg.connect(
        url,
        # libpq's minimum is 2 s.
        connect_timeout=max(round(timeout), 2),
        application_name=name,
        autocommit=True,
        options=f"{given} -c timezone=UTC {options}".strip(),
        keepalives_idle=_IDLE_SECONDS,
        tcp_user_timeout=_GONE_MS,
    )
