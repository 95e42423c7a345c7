"""The web page at ``/``: static files of this package, held in memory.

The files contain no data and need no token. All of them except the page itself have a hash of their
contents in their path, so that browsers cache them until they change.
"""

import gzip
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from redismetrics.exposition.compression import accepts_gzip

# Below this path there are only files of the page.
PREFIX = "/ui/"
_FOLDER = Path(__file__).parent / "page"
_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Only the page's own files, and no text that is parsed as HTML or run as a script.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
# The style sheets of the page, which are served as one file.
_SHEETS = re.compile(r'( *<link rel="stylesheet" href="ui/VERSION/css/\w+\.css">\n)+')
_JOINED = "css/all.css"
_FOREVER = "public, max-age=31536000, immutable"


def page_routes() -> list[Route]:
    """Return the routes of the page and its files."""
    return [Route("/", _page), Route(PREFIX + "{version}/{path:path}", _file)]


async def _page(request: Request) -> Response:
    version, files = _load()
    return _response(request, "index.html", files["index.html"], version, "no-cache")


async def _file(request: Request) -> Response:
    version, files = _load()
    path = request.path_params["path"]
    if path == "index.html" or path not in files:
        raise HTTPException(404, "the page has no such file")
    # A page loaded before an update gets the new files, and does not cache them.
    is_current = request.path_params["version"] == version
    return _response(request, path, files[path], version, _FOREVER if is_current else "no-cache")


def _response(request: Request, path: str, body: bytes, version: str, caching: str) -> Response:
    tag = f'W/"{version}"'
    headers = {**_HEADERS, "Cache-Control": caching, "ETag": tag}
    if tag in _tags(request.headers.getlist("if-none-match")):
        return Response(status_code=304, headers={**headers, "Vary": "Accept-Encoding"})
    headers |= {"Content-Type": _CONTENT_TYPES[Path(path).suffix], "Vary": "Accept-Encoding"}
    if accepts_gzip(",".join(request.headers.getlist("accept-encoding"))):
        body, headers["Content-Encoding"] = _packed(path), "gzip"
    return Response(body, headers=headers)


@cache
def _packed(path: str) -> bytes:
    """Return a file as gzip, packed once and well."""
    return gzip.compress(_load()[1][path], mtime=0)


def _tags(values: Sequence[str]) -> set[str]:
    return {tag.strip() for value in values for tag in value.split(",")}


@cache
def _load() -> tuple[str, dict[str, bytes]]:
    """Return a hash of all files, and their contents by path."""
    files = {
        path.relative_to(_FOLDER).as_posix(): path.read_bytes()
        for path in sorted(_FOLDER.rglob("*"))
        if path.suffix in _CONTENT_TYPES
    }
    digest = hashlib.sha256()
    for name, body in files.items():
        digest.update(b"%b\0%d\0%b" % (name.encode(), len(body), body))
    version = digest.hexdigest()[:16]
    # Browsers load modules one by one as they discover them; this lists all of them at once.
    preloads = "\n".join(
        f'  <link rel="modulepreload" href="ui/VERSION/{name}">'
        for name in files
        if name.endswith(".js")
    )
    page = files["index.html"].decode()
    links = _SHEETS.search(page)
    assert links is not None, "BUG: the page has no style sheet"
    sheets = re.findall(r"css/\w+\.css", links[0])
    files[_JOINED] = b"".join(files.pop(name) for name in sheets)
    page = page.replace(
        links[0], f'  <link rel="stylesheet" href="ui/VERSION/{_JOINED}">\n'
    ).replace("  <!-- modules -->", preloads)
    files["index.html"] = page.replace("VERSION", version).encode()
    return version, files
