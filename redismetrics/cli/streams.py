"""Standard streams that are closed, full, or have an encoding that cannot represent all text."""

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any

from redismetrics.errors import one_line


def prepare() -> None:
    """Make the three standard streams usable by `print` and by libraries.

    A stream that was closed when the process started (``>&-``) is opened such that using it raises
    an `OSError`; for standard error, the output is discarded instead. Otherwise the next file or
    connection would get its descriptor, and receive the printed output.
    """
    for number, name, mode, flags in (
        # Opened the wrong way on purpose: reading or writing must fail.
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
        # Bytes that are not text are reported as not being a number.
        sys.stdin.reconfigure(errors="replace")


def finish() -> str | None:
    """Flush buffered output; return the reason if that failed, or None.

    Python would do it after the exit status is decided, and print a traceback. If the reader has
    exited, as with ``| head``, there is nothing to report, and the result is ''.
    """
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        _discard_output()
        return "" if isinstance(error, BrokenPipeError) else describe(error)
    return None


def describe(error: Exception) -> str:
    """Describe an error on one line; explain an error that means a closed stream."""
    if isinstance(error, OSError) and error.errno == errno.EBADF:
        return "standard input or output is closed"
    if isinstance(error, OSError) and error.filename is None and error.errno == errno.ENOSPC:
        return "cannot write to standard output: no space left on the device"
    return one_line(error)


def write_utf8(text: str) -> None:
    """Write one line in UTF-8, whatever the encoding of standard output."""
    binary: Any = getattr(sys.stdout, "buffer", None)
    if binary is None:
        print(text, flush=True)
        return
    sys.stdout.flush()
    # A lone surrogate becomes its escape, which is also valid JSON.
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
    """Redirect output that is still buffered to the null device when Python exits."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
