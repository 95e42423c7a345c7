"""YAML with the line of every value, read with limits on size, depth and aliases."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from redismetrics.errors import MissingExtra

try:
    import yaml
except ImportError as _error:
    raise MissingExtra("rule files need YAML: pip install 'redismetrics[alerts]'") from _error

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 50
# Values of a file, each counted as often as an alias repeats it.
MAX_VALUES = 200_000

# libyaml reads ten times as fast. Both parse into events without recursion.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS = {"", "~", "null", "Null", "NULL"}

T = TypeVar("T")


class InvalidFile(ValueError):
    """A file is not valid YAML, or has unexpected contents. *problems* has one line per reason."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))

    def one_line(self) -> str:
        """Return all reasons on one line, for logs."""
        return "; ".join(" ".join(each.split()) for each in self.problems).replace(":; ", ": ")


@dataclass(slots=True)
class Scalar:
    """A single value as written. *is_null* means empty or `null`, without quotes."""

    text: str
    line: int
    column: int
    is_null: bool = False


@dataclass(slots=True)
class Sequence:
    """A list of values."""

    line: int
    column: int
    items: list["Value"] = field(default_factory=list)


@dataclass(slots=True)
class Mapping:
    """Keys and values, in the order of the file."""

    line: int
    column: int
    items: list[tuple["Value", "Value"]] = field(default_factory=list)


Value = Scalar | Sequence | Mapping


def read_yaml(data: bytes) -> Value | None:
    """Return the first document of a file; None if there is none.

    Raises:
        InvalidFile: If it is not UTF-8 or not YAML, larger than 4 MB, nested deeper than 50 or has
            more than 200,000 values.
    """
    if len(data) > MAX_BYTES:
        raise InvalidFile([f"a file must have at most {MAX_BYTES} bytes, got {len(data)}"])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidFile([f"yaml: a file must be UTF-8: {error}"]) from error
    try:
        return _Builder().build(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        marks = [mark for mark in (error.context_mark, error.problem_mark) if mark]
        lines = " to ".join(dict.fromkeys(str(mark.line + 1) for mark in marks))
        raise InvalidFile([f"yaml: line {lines}: {error.problem}"]) from error
    except yaml.YAMLError as error:
        raise InvalidFile([f"yaml: {error}"]) from error


class _Builder:
    """Builds values from the events of a parser."""

    def __init__(self) -> None:
        self.anchors: dict[str, Value] = {}
        self.sizes: dict[int, int] = {}
        self.open: list[tuple[Sequence | Mapping, list[Value], str | None]] = []
        self.root: Value | None = None
        self.values = 0

    def build(self, events: Iterator[Any]) -> Value | None:
        for event in events:
            if isinstance(event, yaml.DocumentEndEvent):
                break
            if isinstance(event, yaml.ScalarEvent):
                self.scalar(event)
            elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
                self.begin(event)
            elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
                self.end()
            elif isinstance(event, yaml.AliasEvent):
                self.alias(event)
        return self.root

    def scalar(self, event: Any) -> None:
        mark = event.start_mark
        is_null = not event.style and event.value in _NULLS and event.implicit[0]
        value = Scalar(event.value, mark.line + 1, mark.column + 1, is_null)
        self.add(value, event.anchor, 1)

    def begin(self, event: Any) -> None:
        if len(self.open) >= MAX_DEPTH:
            raise InvalidFile(
                [f"yaml: line {event.start_mark.line + 1}: nested deeper than {MAX_DEPTH}"]
            )
        kind = Sequence if isinstance(event, yaml.SequenceStartEvent) else Mapping
        mark = event.start_mark
        self.open.append((kind(mark.line + 1, mark.column + 1), [], event.anchor))

    def end(self) -> None:
        value, children, anchor = self.open.pop()
        size = 1 + sum(self.sizes[id(each)] for each in children)
        if isinstance(value, Sequence):
            value.items = children
        else:
            value.items = list(zip(children[::2], children[1::2], strict=True))
        self.add(value, anchor, size)

    def alias(self, event: Any) -> None:
        value = self.anchors.get(event.anchor)
        if value is None:
            line = event.start_mark.line + 1
            raise InvalidFile([f"yaml: line {line}: unknown anchor '{event.anchor}' referenced"])
        self.add(value, None, self.sizes[id(value)])

    def add(self, value: Value, anchor: str | None, size: int) -> None:
        self.values += 1
        if size > MAX_VALUES or self.values > MAX_VALUES:
            raise InvalidFile(
                [f"yaml: line {value.line}: a file must have at most {MAX_VALUES} values"]
            )
        self.sizes[id(value)] = size
        if anchor:
            self.anchors[anchor] = value
        if self.open:
            self.open[-1][1].append(value)
        else:
            self.root = value


class YamlReader:
    """Converts values to the expected types, and collects errors with their lines."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def check(self) -> None:
        """Raise `InvalidFile` if there were any errors."""
        if self.problems:
            raise InvalidFile(["yaml: unmarshal errors:", *(f"  {p}" for p in self.problems)])

    def wrong(self, value: Value, kind: str) -> None:
        """Report that *value* is not a *kind*."""
        names = {Scalar: "!!str", Sequence: "!!seq", Mapping: "!!map"}
        shown = names[type(value)]
        if isinstance(value, Scalar):
            text = value.text if len(value.text) <= 10 else value.text[:7] + "..."
            shown += f" `{text}`"
        self.problems.append(f"line {value.line}: cannot unmarshal {shown} into {kind}")

    def fields(self, value: Value, name: str, known: set[str]) -> dict[str, Value]:
        """Return the fields of a mapping; report unknown and duplicate ones as errors."""
        if isinstance(value, Scalar) and value.is_null:
            return {}
        if not isinstance(value, Mapping):
            self.wrong(value, name)
            return {}
        found: dict[str, Value] = {}
        for key, item in self._pairs(value):
            if key.text not in known:
                self.problems.append(f"line {key.line}: field {key.text} not found in type {name}")
            else:
                found[key.text] = item
        return found

    def _pairs(self, value: Mapping) -> Iterator[tuple[Scalar, Value]]:
        seen: dict[str, int] = {}
        merged: list[tuple[Scalar, Value]] = []
        for key, item in value.items:
            if not isinstance(key, Scalar):
                self.wrong(key, "string")
            elif key.text == "<<":
                merged += self._merged(item)
            elif key.text in seen:
                line = seen[key.text]
                self.problems.append(
                    f'line {key.line}: mapping key "{key.text}" already defined at line {line}'
                )
            else:
                seen[key.text] = key.line
                yield key, item
        for key, item in merged:
            if key.text not in seen:
                seen[key.text] = key.line
                yield key, item

    def _merged(self, value: Value) -> list[tuple[Scalar, Value]]:
        """Return the pairs added by the merge key `<<`."""
        sources = value.items if isinstance(value, Sequence) else [value]
        found: list[tuple[Scalar, Value]] = []
        for source in sources:
            if isinstance(source, Mapping):
                found += self._pairs(source)
            else:
                self.problems.append(
                    f"line {value.line}: map merge requires map or sequence of maps"
                )
        return found

    def text(self, value: Value | None, default: str = "") -> str:
        """Return text; a number or boolean is used as written."""
        if value is None or (isinstance(value, Scalar) and value.is_null):
            return default
        if not isinstance(value, Scalar):
            self.wrong(value, "string")
            return default
        return value.text

    def number(self, value: Value | None, kind: str, convert: Callable[[str], T], default: T) -> T:
        """Return a number, converted by *convert*."""
        if value is None or (isinstance(value, Scalar) and value.is_null):
            return default
        if isinstance(value, Scalar):
            try:
                return convert(value.text)
            except ValueError:
                pass
        self.wrong(value, kind)
        return default

    def texts(self, value: Value | None) -> dict[str, str]:
        """Return a mapping of text to text."""
        if value is None or (isinstance(value, Scalar) and value.is_null):
            return {}
        if not isinstance(value, Mapping):
            self.wrong(value, "map[string]string")
            return {}
        return {key.text: self.text(item) for key, item in self._pairs(value)}

    def items(self, value: Value | None, kind: str) -> list[Value]:
        """Return the values of a list."""
        if value is None or (isinstance(value, Scalar) and value.is_null):
            return []
        if not isinstance(value, Sequence):
            self.wrong(value, f"[]{kind}")
            return []
        return value.items
