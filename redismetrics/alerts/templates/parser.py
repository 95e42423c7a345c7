"""Parse templates into nodes."""

import ast

from .errors import TemplateSyntaxError
from .lexer import TemplateToken, tokens
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

MAX_DEPTH = 50
_CONSTANTS = {"true": True, "false": False, "nil": None}


def parse(
    template: str, functions: frozenset[str], variables: tuple[str, ...] = ()
) -> tuple[list[Node], dict[str, list[Node]]]:
    """Return the nodes of *template*, and of each template that it defines.

    The template may call *functions*, and use *variables* in addition to `$` and those that it
    declares.

    Raises:
        TemplateSyntaxError: If it is not valid, or nested deeper than 50.
    """
    parser = _TemplateParser(template, functions, variables)
    nodes, ended_by = parser.body(())
    if ended_by is not None:
        raise parser.error(f"unexpected {{{{{ended_by}}}}}")
    return nodes, parser.defined


class _TemplateParser:
    def __init__(
        self, template: str, functions: frozenset[str], variables: tuple[str, ...]
    ) -> None:
        self.tokens = [*tokens(template), TemplateToken("EOF", "", template.count("\n") + 1)]
        self.at = 0
        self.functions = functions
        self.variables = ["$", *variables]
        self.defined: dict[str, list[Node]] = {}
        self.depth = 0
        self.loops = 0

    def error(self, problem: str) -> TemplateSyntaxError:
        return TemplateSyntaxError(problem, self.tokens[min(self.at, len(self.tokens) - 1)].line)

    def peek(self) -> TemplateToken:
        return self.tokens[self.at]

    def next(self) -> TemplateToken:
        token = self.tokens[self.at]
        if token.kind == "EOF":
            raise self.error("unexpected end of the template")
        self.at += 1
        return token

    def skip_space(self) -> None:
        while self.peek().kind == "space":
            self.at += 1

    def expect(self, kind: str, where: str) -> TemplateToken:
        self.skip_space()
        token = self.next()
        if token.kind != kind:
            raise self.error(f"unexpected {token.text!r} in {where}")
        return token

    def body(self, ends: tuple[str, ...]) -> tuple[list[Node], str | None]:
        """Return the nodes up to an action in *ends*, and that action."""
        nodes: list[Node] = []
        while self.peek().kind != "EOF":
            token = self.next()
            if token.kind == "text":
                nodes.append(PlainText(token.text))
                continue
            self.skip_space()
            word = self.peek().text if self.peek().kind == "word" else ""
            if word in ("end", "else"):
                self.at += 1
                if word not in ends:
                    return nodes, word
                return nodes, word
            node = self.action(word)
            if node is not None:
                nodes.append(node)
        if ends:
            raise self.error("unexpected EOF: an {{end}} is missing")
        return nodes, None

    def action(self, word: str) -> Node | None:
        if word in ("if", "with", "range"):
            self.at += 1
            return self.block(word)
        if word in ("define", "block"):
            self.at += 1
            return self.define(word)
        if word == "template":
            self.at += 1
            return self.include()
        if word in ("break", "continue"):
            self.at += 1
            if not self.loops:
                raise self.error(f"{{{{{word}}}}} outside {{{{range}}}}")
            self.expect("end", word)
            return Jump(word)
        return Action(self.pipeline("command", "end"))

    def block(self, kind: str) -> ControlBlock:
        self.enter()
        mark = len(self.variables)
        self.loops += kind == "range"
        block = ControlBlock(kind, self.pipeline(kind, "end"))
        block.body, ended_by = self.body(("end", "else"))
        self.loops -= kind == "range"
        if ended_by == "else":
            block.otherwise = self.otherwise(kind)
        else:
            self.expect("end", "end")
        del self.variables[mark:]
        self.depth -= 1
        return block

    def otherwise(self, kind: str) -> list[Node]:
        self.skip_space()
        if self.peek().text in ("if", "with") and kind == self.peek().text:
            self.at += 1
            return [self.block(kind)]
        self.expect("end", "else")
        nodes, ended_by = self.body(("end",))
        if ended_by != "end":
            raise self.error("expected end; found {{else}}")
        self.expect("end", "end")
        return nodes

    def enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"a template must be nested at most {MAX_DEPTH} deep; simplify it")

    def define(self, kind: str) -> Node | None:
        name = self.text(self.expect("string", f"{kind} clause"))
        pipeline = self.pipeline(kind, "end") if kind == "block" else None
        if pipeline is None:
            if self.depth:
                raise self.error("unexpected {{define}}")
            self.expect("end", "define clause")
        self.enter()
        outer, self.variables = self.variables, ["$"]
        loops, self.loops = self.loops, 0
        nodes, ended_by = self.body(("end",))
        if ended_by != "end":
            raise self.error("unexpected {{else}}")
        self.expect("end", "end")
        self.variables, self.loops = outer, loops
        self.depth -= 1
        self.defined[name] = nodes
        return Include(name, pipeline) if pipeline else None

    def include(self) -> Include:
        name = self.text(self.expect("string", "template clause"))
        self.skip_space()
        if self.peek().kind == "end":
            self.at += 1
            return Include(name, None)
        return Include(name, self.pipeline("template clause", "end"))

    def pipeline(self, where: str, end: str) -> Pipeline:
        """Parse up to a token of the kind *end*, which is consumed."""
        self.enter()
        declares, assigns = self.declarations(where)
        commands: list[tuple[Operand, ...]] = []
        while True:
            command = self.command(where, end)
            if commands and isinstance(command[0], Literal | Variable):
                raise self.error(f"non executable command in pipeline stage {len(commands) + 1}")
            commands.append(command)
            token = self.next()
            if token.kind == end:
                break
            if token.kind != "|":
                raise self.error(f"unexpected {token.text!r} in {where}")
        # A variable may be used from the next action on.
        if not assigns:
            self.variables += declares
        self.depth -= 1
        return Pipeline(tuple(commands), declares, assigns)

    def declarations(self, where: str) -> tuple[tuple[str, ...], bool]:
        begin = self.at
        found = []
        while True:
            self.skip_space()
            token = self.peek()
            if token.kind != "variable":
                break
            found.append(token.text)
            self.at += 1
            self.skip_space()
            sign = self.peek().kind
            if sign in (":=", "="):
                self.at += 1
                if sign == "=":
                    self.check_declared(found)
                return tuple(found), sign == "="
            if sign != "," or where != "range" or len(found) > 1:
                break
            self.at += 1
        self.at = begin
        return (), False

    def check_declared(self, names: list[str]) -> None:
        for name in names:
            if name not in self.variables:
                raise self.error(f'undefined variable "{name}"')

    def command(self, where: str, end: str) -> tuple[Operand, ...]:
        operands: list[Operand] = []
        while True:
            self.skip_space()
            if self.peek().kind in (end, "|"):
                break
            operands.append(self.operand(where))
            if self.peek().kind not in ("space", end, "|"):
                raise self.error(f"unexpected {self.peek().text!r} in operand")
        if not operands:
            raise self.error(f"missing value for {where}")
        return tuple(operands)

    def operand(self, where: str) -> Operand:
        token = self.next()
        base: Operand
        if token.kind == "(":
            base = self.pipeline("parenthesized pipeline", ")")
        elif token.kind == "variable":
            self.check_declared([token.text])
            base = Variable(token.text)
        elif token.kind == "field":
            self.at -= 1
            base = Variable(".")
        elif token.kind == ".":
            base = Variable(".")
        elif token.kind == "word" and token.text not in _CONSTANTS:
            if token.text not in self.functions:
                raise self.error(f'function "{token.text}" not defined')
            return FunctionName(token.text)
        else:
            return Literal(self.constant(token, where))
        names = []
        while self.peek().kind == "field":
            names.append(self.next().text[1:])
        return Fields(base, tuple(names)) if names else base

    def constant(self, token: TemplateToken, where: str) -> str | float | bool | None:
        if token.kind == "word":
            return _CONSTANTS[token.text]
        if token.kind == "string":
            return self.text(token)
        try:
            if token.kind == "char":
                return ord(ast.literal_eval(token.text))
            if token.kind == "number":
                text = token.text.replace("_", "")
                try:
                    return int(text, 0)
                except ValueError:
                    return float(text)
        except (ValueError, SyntaxError, TypeError) as error:
            raise self.error(f"bad number syntax: {token.text!r}") from error
        raise self.error(f"unexpected {token.text!r} in {where}")

    def text(self, token: TemplateToken) -> str:
        if token.text.startswith("`"):
            return token.text[1:-1]
        try:
            # Go's escapes; \a to \v are the same as in Python.
            found: str = ast.literal_eval(token.text)
        except (ValueError, SyntaxError) as error:
            raise self.error(f"bad string syntax: {token.text}") from error
        return found
