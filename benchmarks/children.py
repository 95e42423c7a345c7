"""Processes that keep what they made and measure it on request, so that peers take turns."""

import multiprocessing
import os
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

_SPAWN = multiprocessing.get_context("spawn")


class Child:
    """A spawned process that calls *make* with *args*, and then, on each call, what that returned.

    *make* is a function at the top of a module; *environ* is set before the child imports
    anything. The child ends with the `with` block. A failure in it is raised here, as RuntimeError
    with its traceback.
    """

    def __init__(
        self,
        make: Callable[..., Callable[..., Any]],
        *args: Any,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._connection, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs, make, args), daemon=True)
        before = dict(os.environ)
        os.environ.update(environ or {})
        try:
            self._process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        theirs.close()
        self.wait()

    def start(self, *args: Any) -> None:
        """Begin a call; `wait` returns its result."""
        self._connection.send(args)

    def wait(self) -> Any:
        failed, result = self._connection.recv()
        if failed:
            raise RuntimeError(f"a child process failed:\n{result}")
        return result

    def __call__(self, *args: Any) -> Any:
        self.start(*args)
        return self.wait()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._process.join(20)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()


def _serve(
    connection: Connection, make: Callable[..., Callable[..., Any]], args: tuple[Any, ...]
) -> None:
    try:
        work = make(*args)
        connection.send((False, None))
        while True:
            try:
                arguments = connection.recv()
            except EOFError:
                return
            connection.send((False, work(*arguments)))
    except Exception:  # noqa: BLE001 (the parent raises it)
        connection.send((True, traceback.format_exc()))
