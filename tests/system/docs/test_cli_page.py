"""The commands on docs/cli.md print what stands there, one after the other, and all commands are on it."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import typer

from redismetrics.cli.main import app
from tests.cli.test_commands import Shell
from tests.fixtures.servers import Server

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "cli.md").read_text()


def examples() -> list[tuple[str, str]]:
    """Each command line, and what is printed below it."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            found.append((command, printed))
    return found


def test_the_commands_print_what_stands_below_them(server: Server, tmp_path: Path) -> None:
    with server.client(db=1) as client:
        client.flushdb()
    script = tmp_path / "redismetrics"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m redismetrics "$@"\n')
    script.chmod(0o755)
    shell = Shell(server.url.replace("db=0", "db=1"), "docs")
    environment = {**shell.environment, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    commands = examples()
    assert len(commands) > 20
    for command, printed in commands:
        words = shlex.split(command.removesuffix(" 2>&1"))
        if {"|", "--"} & set(words):
            done = subprocess.run(
                ["bash", "-c", command],
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            status, out, err = done.returncode, done.stdout, done.stderr
        else:
            assert words.pop(0) == "redismetrics"
            status, out, err = shell(*words)
            if command.endswith(" 2>&1"):
                out, err = out + err, ""
        told = f"exit status {status}\n" if status else ""
        assert (out + told, err) == (printed, ""), command


def test_every_command_is_on_the_page() -> None:
    for name in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        assert re.search(rf"`{name}`|redismetrics {name}\b", PAGE), name
