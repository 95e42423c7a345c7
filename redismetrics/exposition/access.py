"""Which HTTP requests are accepted: checks of Host and Sec-Fetch-Site."""

import re
from collections.abc import Sequence

from redismetrics.store.urls import is_loopback

_HOST = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:/\s]+))(?::\d{1,5})?\Z", re.ASCII
)
CROSS_SITE_MESSAGE = (
    "Sec-Fetch-Site must not be cross-site: pages of other sites may not use this server; "
    "open its address directly"
)


def names_localhost(hosts: Sequence[str]) -> bool:
    """Return whether *hosts*, the Host headers of a request, name just this machine.

    Another site can make its own name resolve to 127.0.0.1 (DNS rebinding), and to a browser this
    server then belongs to that site.
    """
    match = _HOST.match(hosts[0]) if len(hosts) == 1 else None
    return match is not None and is_loopback((match["ipv6"] or match["name"]).lower())


def is_cross_site(values: Sequence[str]) -> bool:
    """Return whether *values*, the Sec-Fetch-Site headers, indicate a page of another site."""
    return any(value.strip().lower() == "cross-site" for value in values)
