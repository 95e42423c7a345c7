"""Dumps of namespaces, as the golden files hold them: name of a key -> type and content in hex."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import redis

from tests.fixtures.servers import Server

FOLDER = Path(__file__).parent


def read_all(client: redis.Redis, namespace: str) -> dict[str, Any]:
    """Return every key of a namespace with type and content.

    Content is pairs of hex; of a sorted set, members in order with the score as text.
    """
    found: dict[str, Any] = {}
    for key in sorted(client.keys(f"rm:{namespace}:*") + client.keys(f"rm:{{{namespace}:*}}:*")):
        kind = client.type(key).decode()
        content: Any
        if kind == "hash":
            content = dict(
                sorted((field.hex(), value.hex()) for field, value in client.hgetall(key).items())
            )
        elif kind == "zset":
            content = [
                [f"{score:.0f}", member.hex()]
                for member, score in client.zrange(key, 0, -1, withscores=True)
            ]
        else:
            assert kind == "string", f"{key!r} is a {kind}"
            content = client.get(key).hex()
        found[key.decode()] = {"type": kind, "content": content}
    return found


def write_all(client: redis.Redis, content: dict[str, Any]) -> None:
    """Replace all keys by what `read_all` returned."""
    for key, of_key in content.items():
        client.delete(key)
        if of_key["type"] == "hash":
            pairs = {
                bytes.fromhex(field): bytes.fromhex(value)
                for field, value in of_key["content"].items()
            }
            client.hset(key, mapping=pairs)  # type: ignore[arg-type]
        elif of_key["type"] == "zset":
            client.zadd(
                key, {bytes.fromhex(member): float(score) for score, member in of_key["content"]}
            )
        else:
            client.set(key, bytes.fromhex(of_key["content"]))


def dump(namespace: str, record: Callable[[Server], None]) -> dict[str, Any]:
    """Return what *record* writes to a server of its own. Random tokens are always the same."""
    with (
        tempfile.TemporaryDirectory(prefix="rm-", dir="/tmp") as folder,
        mock.patch("secrets.token_hex", lambda size: "5e" * size),
        Server.start(Path(folder)) as server,
    ):
        record(server)
        with server.client() as client:
            return read_all(client, namespace)


def load(file: str) -> dict[str, Any]:
    """Return the dump in a golden file."""
    content: dict[str, Any] = json.loads((FOLDER / file).read_text())
    return content


def save(file: str, content: dict[str, Any]) -> None:
    """Write a golden file."""
    path = FOLDER / file
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{path}: {path.stat().st_size} bytes")


@contextmanager
def restored_dump(server: Server, namespace: str, content: dict[str, Any]) -> Iterator[redis.Redis]:
    """A client of a server whose namespace holds the dump and nothing else, until the end."""
    with server.client() as client:
        clear(client, namespace)
        write_all(client, content)
        yield client
        clear(client, namespace)


def clear(client: redis.Redis, namespace: str) -> None:
    """Delete all keys of a namespace."""
    if left := read_all(client, namespace):
        client.delete(*left)
