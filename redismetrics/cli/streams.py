"""Standard streams that are closed, full, or of an encoding that cannot show all text."""

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any

from redismetrics.errors import one_line


def prepare() -> None:
    """Make the three standard streams usable by `print` and by libraries.

    A stream that was closed when the process started (``>&-``) is opened so that its use fails
    with an `OSError`, except for standard error, whose text is discarded. Otherwise the next file
    or connection would take its place, and would receive what is printed.
    """
    for number, name, mode, flags in (
        # The wrong way on purpose: reading or writing must fail.
        (0, "stdin", "r", os.O_WRONLY),
        (1, "stdout", "w", os.O_RDONLY),
        (2, "stderr", "w", os.O_RDWR),
    ):
        if getattr(sys, name) is None:
            _open(number, flags)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a bar still shows the numbers. Programs that read a pipe
            # must be able to tell two tags apart.
            stream.reconfigure(errors="replace" if stream.isatty() else "backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        # What is not text is reported as what it is: no number.
        sys.stdin.reconfigure(errors="replace")


def finish() -> str | None:
    """Write what is still buffered; return why that failed, or None.

    Python would do it after the exit status is known, and print a traceback. A reader that has
    ended, as in ``| head``, is no reason to complain, and the result is ''.
    """
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        _discard_output()
        return "" if isinstance(error, BrokenPipeError) else describe(error)
    return None


def describe(error: Exception) -> str:
    """Return an error as one line; a closed stream by what it means."""
    if isinstance(error, OSError) and error.errno == errno.EBADF:
        return "standard input or output is closed"
    if isinstance(error, OSError) and error.filename is None and error.errno == errno.ENOSPC:
        return "cannot write to standard output: no space left on the device"
    return one_line(error)


def write_utf8(text: str) -> None:
    """Write one line as UTF-8, whatever the encoding of standard output is."""
    binary: Any = getattr(sys.stdout, "buffer", None)
    if binary is None:
        print(text, flush=True)
        return
    sys.stdout.flush()
    # A lone surrogate becomes its escape, which JSON knows as well.
    binary.write(f"{text}\n".encode(errors="backslashreplace"))
    binary.flush()


def _open(number: int, flags: int) -> None:
    with suppress(OSError):
        os.fstat(number)
        return
    opened = os.open(os.devnull, flags)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
    os.set_inheritable(number, True)


def _discard_output() -> None:
    """Let what is still buffered be written to nowhere when Python ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
