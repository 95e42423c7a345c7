"""Remove passwords from URLs before they are shown."""

import re
from urllib.parse import unquote

# An option whose name contains one of these words has a secret value.
_SECRETS = ("pass", "pwd", "secret", "token", "auth", "credential")
_OPTION = re.compile(r"([^?&#;=/]*)=")


def safe_url(url: str) -> str:
    """Return *url* without its password, for messages and logs.

    The password is hidden even if it contains unescaped special characters, or if the name of its
    option is percent-encoded. If the parts of the URL are ambiguous, all of them are hidden.
    """
    scheme, slashes, rest = url.partition("://")
    if not slashes:
        # With =, it may be a connection string such as "host=db password=...".
        return "***" if "@" in url or "=" in url else url
    login, at, place = rest.rpartition("@")
    if "=" in login.partition("?")[2]:
        # The @ may belong to an option, in which case the rest may be part of a password.
        return f"{scheme}://***"
    if at:
        login = f"{login.partition(':')[0]}:***" if ":" in login else "***"
    return f"{scheme}://{login}{at}{_without_secrets(place)}"


def _without_secrets(place: str) -> str:
    """Return host, path and options with *** for the value of each secret option."""
    shown, at = "", 0
    while found := _OPTION.search(place, at):
        shown += place[at : found.end()]
        at = found.end()
        if _is_secret(found[1]):
            shown += "***"
            at = place.find("&", at) if "&" in place[at:] else len(place)
    return shown + place[at:]


def _is_secret(option: str) -> bool:
    for _ in range(3):
        option = unquote(option)
    return any(word in option.lower() for word in _SECRETS)
