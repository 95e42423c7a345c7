"""Format values like Go's package fmt: https://pkg.go.dev/fmt"""

import math
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

_VERB = re.compile(
    r"%(?P<flags>[-+# 0]*)(?P<width>\d{1,3})?(?:\.(?P<precision>\d{0,3}))?(?P<verb>.)", re.DOTALL
)
_TYPES: list[tuple[type, str]] = [
    (bool, "bool"),
    (int, "int"),
    (float, "float64"),
    (str, "string"),
    (dict, "map[string]string"),
]


def type_name(value: Any) -> str:
    """Return the name of the Go type of a value."""
    for kind, name in _TYPES:
        if isinstance(value, kind):
            return name
    return "<nil>" if value is None else type(value).__name__


def shown(value: Any) -> str:
    """Format *value* like `%v`."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{shown(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(shown, value)) + "]"
    if isinstance(value, datetime):
        return time_text(value)
    return str(value)


def float_text(value: float) -> str:
    """Format a float like `%v`: the shortest text, with an exponent from 1e21 on."""
    if not math.isfinite(value):
        return _infinite(value)
    shortest = Decimal(repr(value)).normalize()
    exponent = shortest.adjusted()
    if value == 0 or -4 <= exponent < 21:
        return f"{shortest:f}"
    return f"{shortest.scaleb(-exponent):f}e{exponent:+03d}"


def _infinite(value: float) -> str:
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def time_text(value: datetime) -> str:
    """Format a time like Go's Time.String."""
    value = value.astimezone(UTC)
    fraction = f".{value.microsecond:06d}".rstrip("0") if value.microsecond else ""
    return f"{value:%Y-%m-%d %H:%M:%S}{fraction} +0000 UTC"


def quoted(text: str) -> str:
    """Return *text* in double quotes, like `%q`."""
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    parts = []
    for letter in text:
        if letter in escapes:
            parts.append(escapes[letter])
        elif letter.isprintable():
            parts.append(letter)
        else:
            code = ord(letter)
            parts.append(f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}")
    return '"' + "".join(parts) + '"'


def joined(values: list[Any]) -> str:
    """Format *values* like `Sprint`: with a space between two values that are not text."""
    parts = []
    for place, value in enumerate(values):
        if place and not isinstance(value, str) and not isinstance(values[place - 1], str):
            parts.append(" ")
        parts.append("<nil>" if value is None else shown(value))
    return "".join(parts)


def printf(form: str, values: list[Any]) -> str:
    """Format *values* like `Sprintf` with the format *form*, including its error marks."""
    taken = 0

    def one(found: re.Match[str]) -> str:
        nonlocal taken
        if found["verb"] == "%":
            return "%"
        if taken >= len(values):
            return f"%!{found['verb']}(MISSING)"
        taken += 1
        return _written(found, values[taken - 1])

    text = _VERB.sub(one, form)
    if re.search(r"(?:^|[^%])(?:%%)*%$", form):
        text += "!(NOVERB)"
    if taken < len(values):
        rest = ", ".join(f"{type_name(each)}={shown(each)}" for each in values[taken:])
        text += f"%!(EXTRA {rest})"
    return text


def _written(found: re.Match[str], value: Any) -> str:
    flags, verb, precision = found["flags"], found["verb"], found["precision"]
    body = _body(verb, flags, None if precision is None else int(precision or 0), value)
    if body is None:
        return f"%!{verb}({type_name(value)}={shown(value)})"
    width = int(found["width"] or 0)
    if "-" in flags:
        return body.ljust(width)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if "0" in flags and is_number and not body.endswith(("Inf", "NaN")):
        return body.zfill(width)
    return body.rjust(width)


def _body(verb: str, flags: str, precision: int | None, value: Any) -> str | None:
    """Return a value without padding; None if *verb* does not apply to its type."""
    plus = "+" if "+" in flags else " " if " " in flags else ""
    if verb == "T":
        return type_name(value)
    if isinstance(value, bool):
        return shown(value) if verb in "vt" else None
    if isinstance(value, float):
        if verb == "v" and precision is None:
            text = float_text(value)
        elif verb in "vgGeEfF":
            text = _float_by(verb.replace("v", "g"), precision, value)
        else:
            return None
        return text if text[0] in "+-" else plus + text
    if isinstance(value, int):
        return _integer(verb, plus, value)
    if value is None:
        return "<nil>" if verb == "v" else None
    if verb in ("v", "s"):
        text = shown(value)
        return text if precision is None else text[:precision]
    if isinstance(value, str) and verb == "q":
        return quoted(value)
    if isinstance(value, str) and verb in "xX":
        digits = value.encode().hex()
        return digits.upper() if verb == "X" else digits
    return None


def _float_by(verb: str, precision: int | None, value: float) -> str:
    if not math.isfinite(value):
        return _infinite(value)
    if verb in "gG" and precision is None:
        text = float_text(value)
        return text.upper() if verb == "G" else text
    return f"{value:.{6 if precision is None else precision}{verb}}"


def _integer(verb: str, plus: str, value: int) -> str | None:
    forms = {"v": "d", "d": "d", "b": "b", "o": "o", "x": "x", "X": "X"}
    if verb == "c":
        return chr(value) if 0 <= value < 0x110000 else "\ufffd"
    if verb == "q":
        return f"'{chr(value)}'" if 0 <= value < 0x110000 else None
    if verb not in forms:
        return None
    text = format(value, forms[verb])
    return (plus if value >= 0 else "") + text
