"""Single key presses on a terminal, whose mode is restored at the end."""

import codecs
import os
import re
import select
import sys
import termios
import tty
from typing import Self

_SEQUENCES = {
    "[A": "up",
    "[B": "down",
    "OA": "up",
    "OB": "down",
    "[5~": "pageup",
    "[6~": "pagedown",
    "[H": "home",
    "[F": "end",
    "OH": "home",
    "OF": "end",
    "[1~": "home",
    "[4~": "end",
}
_CHARACTERS = {
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\b": "backspace",
    "\x04": "ctrl-d",
    "\x1b": "escape",
}
_KEY = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z~]|O[A-Za-z])|(.)", re.DOTALL)

# Seconds within which the rest of an escape sequence must arrive.
_SEQUENCE_TIMEOUT = 0.05


class Keyboard:
    """The terminal on standard input, without echo and line buffering inside the `with` block.

    Ctrl-C still sends a signal.
    """

    def __init__(self) -> None:
        self._terminal = sys.stdin.fileno()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._terminal)
        tty.setcbreak(self._terminal)
        return self

    def __exit__(self, *_: object) -> None:
        termios.tcsetattr(self._terminal, termios.TCSAFLUSH, self._before)

    def read(self, seconds: float) -> list[str]:
        """Return the keys pressed within *seconds*, as soon as there are any.

        A key is a character, or a name such as up, down or enter; q if the terminal is closed.
        """
        text = self._text(seconds)
        if text.endswith(("\x1b", "\x1b[", "\x1bO")):
            text += self._text(_SEQUENCE_TIMEOUT)
        return [
            _SEQUENCES.get(found[1], "") if found[1] else _CHARACTERS.get(found[2], found[2])
            for found in _KEY.finditer(text)
        ]

    def _text(self, seconds: float) -> str:
        if not select.select([self._terminal], [], [], seconds)[0]:
            return ""
        try:
            data = os.read(self._terminal, 1024)
        except OSError:
            data = b""
        return self._decoder.decode(data) if data else "q"
