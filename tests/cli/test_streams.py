"""JSON is UTF-8 whatever the locale is; closed and full standard streams give one clear message."""

import json
import shlex
import subprocess
import sys

import pytest

from tests.fixtures.shell import Shell

CLOSED = "redismetrics: standard input or output is closed\n"


def run(shell: Shell, command: str, encoding: str = "utf-8") -> tuple[int, bytes, bytes]:
    done = subprocess.run(
        ["bash", "-c", f"{shlex.quote(sys.executable)} -m redismetrics {command}"],
        env=shell.environment | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-16"])
def test_json_is_utf_8_whatever_the_encoding_of_the_pipe_is(shell: Shell, encoding: str) -> None:
    for city in ("日本", "中国"):
        shell("increment", "jobs", "-t", f"city={city}")
    status, out, err = run(shell, "query jobs -a sum -g city --json", encoding)
    assert (status, err) == (0, b"")
    assert json.loads(out.decode()) == [{"city": "中国", "sum": 1}, {"city": "日本", "sum": 1}]


def test_lines_of_a_pipe_keep_text_apart_that_it_cannot_show(shell: Shell) -> None:
    shell("increment", "jobs", "-t", "city=日本")
    status, out, _ = run(shell, "tag-values jobs city", "cp1252")
    assert (status, out) == (0, b"\\u65e5\\u672c\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "status", "error"),
    [
        ("query jobs -a sum >&-", 1, CLOSED),
        ("query jobs -a sum --json >&-", 1, CLOSED),
        ("export >&-", 1, CLOSED),
        ("increment jobs >&- <&-", 0, ""),
        ("record jobs - <&-", 1, CLOSED),
        ("query nosuch 2>&-", 1, ""),
        ("query jobs -a sum >&- 2>&- <&-", 1, ""),
        (
            "query jobs -a sum >/dev/full",
            1,
            "redismetrics: cannot write to standard output: no space left on the device\n",
        ),
    ],
)
def test_a_closed_or_full_stream_gives_no_traceback(
    shell: Shell, command: str, status: int, error: str
) -> None:
    shell("increment", "jobs")
    assert run(shell, command) == (status, b"", error.encode())
