"""Keys of a terminal, one by one as they are pressed, and the terminal as it was when that ends."""

import codecs
import os
import re
import select
import sys
import termios
import tty
from typing import Self

_ESCAPED = {
    "[A": "up", "[B": "down", "OA": "up", "OB": "down", "[5~": "pageup", "[6~": "pagedown",
    "[H": "home", "[F": "end", "OH": "home", "OF": "end", "[1~": "home", "[4~": "end",
}  # fmt: skip
_PLAIN = {
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\b": "backspace",
    "\x04": "ctrl-d",
    "\x1b": "escape",
}
_KEY = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z~]|O[A-Za-z])|(.)", re.DOTALL)
_REST = 0.05  # seconds in which the rest of a key's bytes must come


class Keyboard:
    """The terminal of standard input, neither echoing nor waiting for line ends while this is entered. Ctrl-C stays a signal."""

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
        """The keys pressed within *seconds*, as soon as there are any: characters, and up, down, enter ...; q where the
        terminal is gone.
        """
        text = self._text(seconds)
        if text.endswith(("\x1b", "\x1b[", "\x1bO")):
            text += self._text(_REST)
        return [
            _ESCAPED.get(found[1], "") if found[1] else _PLAIN.get(found[2], found[2])
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
