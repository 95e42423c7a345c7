"""Limits checked before the parser, and the positions of errors."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("promql_parser", reason="needs redismetrics[promql]")
pytest.importorskip("re2", reason="needs redismetrics[promql]")

from redismetrics.errors import InvalidExpression
from redismetrics.promql.parsing import parse
from redismetrics.promql.tokens import MAX_BYTES, MAX_NESTING, MAX_OPERATORS

# Each is repeated to 1 MB. Without the bounds, several of them overflow the parser's stack or take
# it minutes.
HOSTILE = {
    "additions": "x+",
    "left parentheses": "(",
    "pairs of parentheses": "()",
    "negations": "-",
    "calls": "abs(",
    "aggregations": "sum(",
    "subqueries": "[5m:]",
    "left brackets": "[",
    "braces": "{",
    "matchers": 'x{a="b"} or ',
    "quotes": '"',
    "backslashes": '"\\\\',
    "backquotes": "`",
    "comments": "# x\n",
    "numbers": "1",
    "letters": "a",
    "commas": "a,",
    "powers": "2^",
    "comparisons": "x==bool ",
    "unless": "x unless ",
    "offsets": "x offset 5m ",
    "spaces": " ",
    "not ASCII": "é",
    "null characters": "\0",
    "by": "sum by (a) (",
    "calculations": "x[1+",
    "nested calculations": "x[(",
    "calculated offsets": "x offset (1+1) ",
    "modifiers": "x anchored smoothed ",
    "infos": 'info(x,{a!="b"}) + ',
}


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("foo(1)", '1:1: parse error: unknown function with name "foo"; did you mean "floor"?'),
        ("x\n + rat(x[5m])", '2:4: parse error: unknown function with name "rat"'),
        ("sum(x", "1:4: parse error: unclosed left parenthesis"),
        ("rate(x[5m)", "1:10: parse error: unexpected right parenthesis ')'"),
        ("x[5m", "1:2: parse error: unclosed left bracket"),
        ('x{a="b"', "1:2: parse error: unclosed left brace"),
        ('x{a="b', '1:5: parse error: unterminated quoted string "'),
        ("x{a='b", "1:5: parse error: unterminated quoted string '"),
        ("x + é", "1:5: parse error: unexpected character: 'é'"),
        ("", "1:1: parse error: no expression found in input"),
        ("# nothing", "1:1: parse error: no expression found in input"),
        ('x{a="b" or c="d"}', '1:1: parse error: unexpected "or" in label matching'),
        ('x{a=~"("}', "1:1: parse error: illegal regex"),
        ("x[0s]", "duration must be greater than 0"),
        ("{}", "vector selector must contain at least one non-empty matcher"),
        ("rate(x)", 'expected type range vector in call to function "rate", got instant vector'),
        ("x @ 1e999", "timestamp out of bounds for @ modifier: inf"),
        ("x @ 1e300", "timestamp out of bounds for @ modifier: 1e300"),
        ("x @ -1e16", "timestamp out of bounds for @ modifier: 1e16"),
    ],
)
def test_an_error_says_where_and_why(expression: str, message: str) -> None:
    with pytest.raises(InvalidExpression) as raised:
        parse(expression)
    assert message in str(raised.value)


def test_the_size_of_an_expression_is_limited() -> None:
    parse('"' + "x" * (MAX_BYTES - 2) + '"')
    with pytest.raises(InvalidExpression, match="must have at most 65536 bytes, got 65537"):
        parse('"' + "x" * (MAX_BYTES - 1) + '"')


def test_the_number_of_operators_in_an_expression_is_limited() -> None:
    parse("+".join(["x"] * (MAX_OPERATORS + 1)))
    with pytest.raises(InvalidExpression, match="at most 300 operators"):
        parse("+".join(["x"] * (MAX_OPERATORS + 2)))


def test_matchers_are_not_operators() -> None:
    parse("x{" + ",".join(['a!="b"'] * (MAX_OPERATORS + 1)) + "}")


def test_brackets_nest_up_to_a_depth() -> None:
    parse("(" * MAX_NESTING + "x" + ")" * MAX_NESTING)
    with pytest.raises(InvalidExpression, match="1:101: parse error: brackets must nest at most"):
        parse("(" * (MAX_NESTING + 1) + "x" + ")" * (MAX_NESTING + 1))


def test_contents_of_strings_are_not_counted() -> None:
    parse('x{a="' + "+(" * 1000 + '"}')


# Ask in a thread, whose stack is small, for each shape; name it before, in case the process ends.
SURVIVE = """
import json, sys, threading
from redismetrics.errors import InvalidExpression
from redismetrics.promql.parsing import parse

def ask(shape, text):
    print("asked", shape, flush=True)
    try:
        parse(text)
    except InvalidExpression:
        pass
    print("survived", shape, flush=True)

size = int(sys.argv[1])
for shape, unit in json.load(sys.stdin).items():
    text = (unit * (size // len(unit) + 1))[:size]
    thread = threading.Thread(target=ask, args=(shape, text))
    thread.start()
    thread.join()
"""


@pytest.mark.slow
@pytest.mark.parametrize("size", [1 << 20, MAX_BYTES // 2, 2000, 300])
def test_the_process_survives_hostile_shapes_in_a_thread(size: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SURVIVE, str(size)],
        input=json.dumps(HOSTILE),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [f"{word} {shape}" for shape in HOSTILE for word in ("asked", "survived")]
    assert done.stdout.splitlines() == lines, done.stderr[-2000:]


def test_the_process_survives_expressions_at_the_limits() -> None:
    inner = "+".join(["x"] * 200)
    parse("sum(" * 99 + inner + ")" * 99)
    parse("-" * MAX_OPERATORS + "x")
