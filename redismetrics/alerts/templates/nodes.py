"""The nodes of a parsed template."""

from dataclasses import dataclass, field
from typing import Union


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant: text, a number, a truth value, or None for `nil`."""

    value: str | float | bool | None


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable; its name includes the `$`, and `.` is the dot."""

    name: str


@dataclass(frozen=True, slots=True)
class FunctionName:
    """The name of a called function."""

    name: str


@dataclass(frozen=True, slots=True)
class Fields:
    """A chain of fields of an operand: `$labels.job`."""

    of: "Operand"
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands, each of which gets the result of the previous one as its last argument.

    *declares* are the variables that get the result. They are new variables or, if *assigns*,
    existing ones.
    """

    commands: tuple[tuple["Operand", ...], ...]
    declares: tuple[str, ...] = ()
    assigns: bool = False


Operand = Union[Literal, Variable, FunctionName, Fields, Pipeline]  # noqa: UP007


@dataclass(frozen=True, slots=True)
class PlainText:
    """Text that is written unchanged."""

    text: str


@dataclass(frozen=True, slots=True)
class Action:
    """Write the result of a pipeline, unless it declares variables."""

    pipeline: Pipeline


@dataclass(slots=True)
class ControlBlock:
    """`if`, `with` or `range`: *kind* says which."""

    kind: str
    pipeline: Pipeline
    body: list["Node"] = field(default_factory=list)
    otherwise: list["Node"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Include:
    """Write another template by name, with the result of *pipeline* as its dot."""

    name: str
    pipeline: Pipeline | None


@dataclass(frozen=True, slots=True)
class Jump:
    """`break` or `continue` of the innermost `range`."""

    kind: str


Node = PlainText | Action | ControlBlock | Include | Jump
