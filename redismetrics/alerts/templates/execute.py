"""Expand parsed templates."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .errors import ExpansionError
from .go_format import shown, type_name
from .nodes import (
    Action,
    ControlBlock,
    Fields,
    FunctionName,
    Include,
    Jump,
    Literal,
    Node,
    Operand,
    Pipeline,
    PlainText,
    Variable,
)

MAX_OUTPUT = 64 * 1024
MAX_STEPS = 100_000
MAX_DEPTH = 50

# No value at all, which is different from nil.
_NOTHING = object()


class _Jump(Exception):
    """A `break` or `continue`, raised to reach its `range`."""


class Expansion:
    """The expansion of one template: its output, and the remaining budget.

    *functions* get evaluated arguments; they do not include *and* and *or*, which may skip
    arguments. *defined* are templates by name.
    """

    def __init__(
        self, functions: Mapping[str, Callable[..., Any]], defined: Mapping[str, list[Node]]
    ) -> None:
        self.functions = functions
        self.defined = defined
        self.written: list[str] = []
        self.size = 0
        self.steps = 0
        self.depth = 0

    def run(self, nodes: list[Node], dot: Any, variables: dict[str, Any] | None = None) -> str:
        """Return the output of *nodes*, with `$` and *variables*.

        Raises:
            ExpansionError: If a function fails, a type is wrong, or the output is longer than 64
                kB.
        """
        try:
            self._body(nodes, dot, [{"$": dot, **(variables or {})}])
        except RecursionError as error:
            raise ExpansionError("the template is nested too deeply") from error
        return "".join(self.written)

    def _write(self, text: str) -> None:
        self.size += len(text)
        if self.size > MAX_OUTPUT:
            raise ExpansionError(
                f"the text of a template must be at most {MAX_OUTPUT} characters; shorten it"
            )
        self.written.append(text)

    def _step(self) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise ExpansionError(
                f"a template must take at most {MAX_STEPS} steps; use fewer or shorter loops"
            )

    def _body(self, nodes: Iterable[Node], dot: Any, scopes: list[dict[str, Any]]) -> None:
        for node in nodes:
            self._step()
            if isinstance(node, PlainText):
                self._write(node.text)
            elif isinstance(node, Action):
                value = self._pipeline(node.pipeline, dot, scopes)
                if not node.pipeline.declares:
                    self._write(shown(value))
            elif isinstance(node, Include):
                argument = self._pipeline(node.pipeline, dot, scopes) if node.pipeline else None
                self._include(node.name, argument)
            elif isinstance(node, Jump):
                raise _Jump(node.kind)
            else:
                self._block(node, dot, scopes)

    def _include(self, name: str, dot: Any) -> None:
        if name not in self.defined:
            raise ExpansionError(f"template {name!r} not defined")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ExpansionError(f"templates must include each other at most {MAX_DEPTH} deep")
        self._body(self.defined[name], dot, [{"$": dot}])
        self.depth -= 1

    def _block(self, node: ControlBlock, dot: Any, scopes: list[dict[str, Any]]) -> None:
        inner = [*scopes, {}]
        if node.kind == "range":
            self._range(node, dot, inner)
            return
        value = self._pipeline(node.pipeline, dot, inner)
        if is_true(value):
            self._body(node.body, value if node.kind == "with" else dot, inner)
        else:
            self._body(node.otherwise, dot, inner)

    def _range(self, node: ControlBlock, dot: Any, scopes: list[dict[str, Any]]) -> None:
        value = self._pipeline(node.pipeline, dot, scopes)
        if isinstance(value, dict):
            pairs: list[tuple[Any, Any]] = sorted(value.items())
        elif isinstance(value, list):
            pairs = list(enumerate(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            pairs = [(each, each) for each in range(min(value, MAX_STEPS + 1))]
        elif value is None:
            pairs = []
        else:
            raise ExpansionError(f"range can't iterate over {shown(value)}")
        if not pairs:
            self._body(node.otherwise, dot, scopes)
            return
        names = node.pipeline.declares
        for key, item in pairs:
            self._step()
            if names:
                scopes[-1].update(
                    zip(names, (item,) if len(names) == 1 else (key, item), strict=True)
                )
            try:
                self._body(node.body, item, [*scopes, {}])
            except _Jump as jump:
                if jump.args[0] == "break":
                    break

    def _pipeline(self, pipeline: Pipeline, dot: Any, scopes: list[dict[str, Any]]) -> Any:
        value: Any = _NOTHING
        for command in pipeline.commands:
            value = self._command(command, value, dot, scopes)
        if pipeline.assigns:
            for name in pipeline.declares:
                next(scope for scope in reversed(scopes) if name in scope)[name] = value
        elif pipeline.declares:
            scopes[-1][pipeline.declares[0]] = value
        return value

    def _command(
        self, command: tuple[Operand, ...], final: Any, dot: Any, scopes: list[dict[str, Any]]
    ) -> Any:
        self._step()
        first, arguments = command[0], command[1:]
        if isinstance(first, FunctionName):
            return self._call(first.name, arguments, final, dot, scopes)
        if arguments or final is not _NOTHING:
            raise ExpansionError("can't give argument to non-function")
        if isinstance(first, Literal) and first.value is None:
            raise ExpansionError("nil is not a command")
        return self._operand(first, dot, scopes)

    def _operand(self, operand: Operand, dot: Any, scopes: list[dict[str, Any]]) -> Any:
        if isinstance(operand, Literal):
            return operand.value
        if isinstance(operand, Variable):
            if operand.name == ".":
                return dot
            return next(scope[operand.name] for scope in reversed(scopes) if operand.name in scope)
        if isinstance(operand, Fields):
            value = self._operand(operand.of, dot, scopes)
            for name in operand.names:
                value = field_of(value, name)
            return value
        if isinstance(operand, Pipeline):
            return self._pipeline(operand, dot, scopes)
        return self._call(operand.name, (), _NOTHING, dot, scopes)

    def _call(
        self,
        name: str,
        arguments: tuple[Operand, ...],
        final: Any,
        dot: Any,
        scopes: list[dict[str, Any]],
    ) -> Any:
        last = [] if final is _NOTHING else [final]
        if name in ("and", "or"):
            return self._short_circuit(name, arguments, last, dot, scopes)
        values = [self._operand(each, dot, scopes) for each in arguments] + last
        try:
            return self.functions[name](*values)
        except ExpansionError as error:
            raise ExpansionError(f"error calling {name}: {error}") from error
        except TypeError as error:
            raise ExpansionError(f"wrong number of args for {name}, got {len(values)}") from error

    def _short_circuit(
        self,
        name: str,
        arguments: tuple[Operand, ...],
        last: list[Any],
        dot: Any,
        scopes: list[dict[str, Any]],
    ) -> Any:
        """Return the first argument that decides the result, or the last one."""
        if not arguments and not last:
            raise ExpansionError(f"wrong number of args for {name}: must be at least 1, got 0")
        value = None
        for each in arguments:
            value = self._operand(each, dot, scopes)
            if is_true(value) == (name == "or"):
                return value
        return last[0] if last else value


def is_true(value: Any) -> bool:
    """Return whether *value* counts as true: not zero, empty or nil."""
    return bool(value)


class Record:
    """A value with a fixed set of fields, such as an alert or a sample."""

    def __init__(self, kind: str, **fields: Any) -> None:
        self.kind = kind
        self.fields = fields

    def __str__(self) -> str:
        return "{" + " ".join(map(shown, self.fields.values())) + "}"


class Listing(list[Any]):
    """A list that also has fields, such as the alerts of a notification: `.Alerts.Firing`."""

    def __init__(self, items: Iterable[Any], **fields: Any) -> None:
        super().__init__(items)
        self.fields = fields


class LabelSet(dict[str, str]):
    """Labels with Alertmanager's methods: `.Names`, `.Values` and `.SortedPairs`."""

    @property
    def methods(self) -> dict[str, list[Any]]:
        """Return the results of the methods, in the order of the names."""
        pairs = sorted(self.items())
        return {
            "Names": [name for name, _ in pairs],
            "Values": [value for _, value in pairs],
            "SortedPairs": [Record("template.Pair", Name=n, Value=v) for n, v in pairs],
        }


def field_of(value: Any, name: str) -> Any:
    """Return a field; for labels, an empty string if it is missing.

    Raises:
        ExpansionError: If *value* has no fields, or not this one.
    """
    if isinstance(value, Record | Listing):
        if name in value.fields:
            return value.fields[name]
        kind = value.kind if isinstance(value, Record) else "list"
        raise ExpansionError(f"can't evaluate field {name} in type {kind}")
    if isinstance(value, LabelSet) and name not in value:
        return value.methods.get(name, "")
    if isinstance(value, dict):
        # The zero value of the labels' type, as Prometheus sets missingkey=zero.
        return value.get(name, "")
    raise ExpansionError(f"can't evaluate field {name} in type {type_name(value)}")
