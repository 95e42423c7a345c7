"""What is said of the code is true: the README's code runs, public names are documented, Lua heads and floors hold."""

import ast
import doctest
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import redismetrics
from redismetrics.settings import Settings

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "redismetrics"
FLOORS = {
    "errors": 0.0, "slots": 0.2, "model": 0.1, "settings": 0.3,
    "exposition": 1.2, "figures": 1.0, "running": 1.1,
    "keys": 1.0, "plan": 1.0, "rollups": 1.0, "digest": 1.1, "columns": 1.1, "tables": 1.2, "blocks": 1.2, "sealed": 1.3,
    "sealing": 1.3, "parcels": 1.3,
    "wsgi": 2.0, "scripts": 2.0, "embedded": 2.0, "cache": 2.0, "cluster": 2.0, "sentinel": 2.0, "drive": 2.1, "connect": 2.2,
    "operations": 2.2,
    "commits": 2.3, "doctor": 2.5, "replay": 2.4, "gather": 2.4,
    "recorder": 3.0, "verbs": 3.1, "outbox": 3.1, "sender": 3.2, "flusher": 3.3, "reader": 3.1, "worker": 3.1,
    "asking": 3.2, "transfer": 3.1, "copying": 3.2, "feed": 3.2, "stream": 3.3, "telemetry": 3.2,
    "integrations.common": 3.2, "integrations.asgi": 3.3, "integrations.wsgi": 3.3, "integrations.django": 3.4,
    "integrations.process": 3.3, "integrations.celery": 3.4,
    "client": 4.0, "aclient": 4.1, "default": 4.1, "export": 4.2, "testing": 4.3, "demo": 4.3,
    "pytest_plugin": 4.4,
    "integrations.ages": 4.1, "integrations.room": 4.1, "integrations.distributions": 4.0, "integrations.points": 4.2,
    "integrations.otlp": 4.3,
    "integrations.opentelemetry": 4.3,
    "api.parameters": 4.3, "api.sse": 4.3, "api.service": 4.4, "api.questions": 4.45, "api.writing": 4.45, "api.openapi": 4.45,
    "api.app": 4.5, "api.serving": 4.5,
    "cli.printing": 4.5, "cli.board": 4.5, "cli.keyboard": 4.5, "cli.options": 4.55, "cli.watching": 4.6, "cli.asking": 4.6,
    "cli.health": 4.6, "cli.moving": 4.6,
    "cli.demo": 4.6, "cli.recording": 4.6, "cli.running": 4.6, "cli.streaming": 4.6, "cli.top": 4.7, "cli.main": 4.8,
    "__init__": 5.0, "__main__": 5.0,
}  # fmt: skip


def test_the_readme_s_code_runs_and_prints_what_it_says(url: str, namespace: str) -> None:
    runner = "import doctest, sys; sys.exit(doctest.testfile(sys.argv[1], module_relative=False).failed)"
    environ = {**os.environ, "REDISMETRICS_URL": url, "REDISMETRICS_NAMESPACE": namespace, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", runner, str(ROOT / "README.md")],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert doctest.DocTestParser().get_examples((ROOT / "README.md").read_text()), "no examples found"


def test_the_table_of_settings_is_that_of_the_code() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| `REDISMETRICS_(\w+)` \|", text, re.MULTILINE))
    assert rows == {name: name.upper() for name in Settings.__dataclass_fields__}


def test_every_public_name_has_a_docstring_and_none_is_a_submodule() -> None:
    submodules = {path.stem for path in PACKAGE.glob("*.py")}
    for name in redismetrics.__all__:
        assert getattr(redismetrics, name).__doc__, f"{name} has no docstring"
        assert name not in submodules, f"{name} is a submodule too"
    assert redismetrics.__all__ == sorted(redismetrics.__all__)


@pytest.mark.parametrize(
    "word", ["query", "time_series", "rollup", "subscribe", "declare", "measure", "get_stats", "digest"]
)
def test_the_api_page_names_what_people_call(word: str) -> None:
    assert (
        f"`{word}(" in (ROOT / "docs" / "api.md").read_text() or f"`{word}`" in (ROOT / "docs" / "api.md").read_text()
    )


@pytest.mark.parametrize("path", sorted((ROOT / "lua").glob("*.lua")), ids=lambda path: path.stem)
def test_a_lua_head_declares_what_the_body_uses_and_nothing_else(path: Path) -> None:
    lines = path.read_text().splitlines()
    end = next(number for number, line in enumerate(lines) if not line.startswith("--"))
    head, body = "\n".join(lines[:end]), "\n".join(lines[end:])
    for table in ("KEYS", "ARGV"):
        declared = {int(number) for number in re.findall(rf"{table}\[(\d+)\]", head)}
        used = {int(number) for number in re.findall(rf"{table}\[(\d+)\]", body)}
        repeated = re.search(rf"{table}\[(\d+)\+\]", head)  # the first of many, whose places the body works out
        worked_out = re.search(rf"{table}\[[^\]]*[a-z]", body)
        if repeated:
            first = int(repeated[1])
            assert worked_out, f"{table}[{first}+] is declared and never used"
            used = {number for number in used if number < first}
        else:
            assert not worked_out, f"{table} has places that are not declared"
        assert used == declared - ({first} if repeated else set()), (
            f"{table}: used {sorted(used)}, declared {sorted(declared)}"
        )
    assert "Returns" in head
    assert "Why Lua" in head
    assert not re.search(r"'(KEYS|SCAN|HSCAN|FLUSHALL)'", body)


def test_a_file_imports_only_from_floors_below_its_own() -> None:
    paths = [path for path in PACKAGE.rglob("*.py") if path.parent == PACKAGE or path.name != "__init__.py"]
    files = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in paths}
    assert set(files) == set(FLOORS)
    for name, path in files.items():
        for node in ast.walk(ast.parse(path.read_text())):
            for target in imported(node, name):
                assert FLOORS[target] < FLOORS[name], f"{name} imports {target}"


def imported(node: ast.AST, name: str) -> list[str]:
    """The files of the package that an import of file *name* names; a folder's own names stand in its files."""
    if not isinstance(node, ast.ImportFrom):
        return []
    if node.level:
        base = ".".join(filter(None, [*name.split(".")[: -node.level], node.module]))
    elif node.level == 0 and (node.module or "").split(".")[0] == "redismetrics":
        base = (node.module or "").removeprefix("redismetrics").lstrip(".")
    else:
        return []
    inside = [f"{base}.{alias.name}".lstrip(".") for alias in node.names]
    found = [each for each in (base, *inside) if each in FLOORS]
    assert found or all(alias.name == "__version__" for alias in node.names), f"{name} imports {base}"
    return found


def test_import_loads_neither_numpy_nor_redis() -> None:
    code = textwrap.dedent(
        """
        import sys, redismetrics
        redismetrics.Counter("made_at_import")
        sys.exit(",".join(sorted({"asyncio", "numpy", "pcodec", "fastdigest", "redis"} & set(sys.modules))) or None)
        """
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
