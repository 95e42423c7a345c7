"""Which package may import which, and what else holds for the package as a whole.

The table in CONTRIBUTING.md is compared with `ALLOWED`.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from itertools import combinations
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "redismetrics"

FOUNDATIONS = {"errors", "model", "settings", "columnar", "store"}
STATIONS = {"recording", "worker", "queries", "stream"}
# The client may import these, but only inside functions.
LATE = {"promql", "alerts", "archive"}
CLIENT = FOUNDATIONS | STATIONS | LATE | {"exposition", "client"}

# The packages that a package may import beside itself. `errors` and `settings` are single modules.
# The order is from the bottom to the top; CONTRIBUTING.md shows the same rows.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "model": {"errors"},
    "settings": {"errors", "model"},
    "columnar": {"errors", "model"},
    "store": {"errors", "model"},
    "exposition": {"errors", "model", "columnar", "store"},
    "recording": {"errors", "model", "settings", "columnar", "store"},
    "stream": {"errors", "model", "columnar", "store"},
    "worker": {"errors", "model", "settings", "columnar", "store", "exposition"},
    "queries": {"errors", "model", "columnar", "store", "exposition"},
    "telemetry": {"errors", "model", "recording"},
    "promql": {"errors", "model", "columnar", "store", "exposition", "queries"},
    "alerts": FOUNDATIONS | {"exposition", "queries", "promql", "recording"},
    "archive": {"errors", "model", "columnar", "store", "exposition", "queries"},
    "client": CLIENT - {"client"},
    "admin": {"errors", "model", "settings", "store", "queries", "alerts"},
    "export": CLIENT,
    "push": CLIENT,
    "integrations": CLIENT,
    "testing": CLIENT,
    "compat": CLIENT | {"export"},
    "api": CLIENT | {"export", "integrations", "admin"},
}
# Rows for packages that do not exist yet.
PLANNED: set[str] = set()
# May import everything; nobody imports them. `redismetrics/__init__.py` is "__init__".
TOP = {"__init__", "__main__", "cli"}

# Packages that hand on public names. The others have a docstring in `__init__.py` and nothing else.
PUBLIC = {"", "admin", "api", "export", "integrations.opentelemetry", "telemetry", "testing"}
PUBLIC |= {"worker"}

# Importing these must load none of HEAVY: a process that only records stays small.
RECORDING_ONLY = [
    "__init__",
    "errors",
    "recording.buffers",
    "recording.instruments",
    "recording.methods",
    "recording.recorder",
    "recording.timer",
    "settings",
]
HEAVY = {"asyncio", "fastdigest", "numpy", "pcodec", "redis"}

MAX_LINES = 450
MAX_MEDIAN = 150

# Classes of one name that mean the same thing.
# Of ASGI, WSGI and Django; of Keras, Transformers and Lightning.
SAME_MEANING = {"MetricsMiddleware", "RunCallback"}


def modules() -> dict[str, Path]:
    """Return the file of each module, by its dotted name without `redismetrics.`.

    A package has its own name; `redismetrics/__init__.py` is `__init__`.
    """
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
        if parts[-1] == "__init__" and len(parts) > 1:
            parts.pop()
        found[".".join(parts)] = path
    return found


MODULES = modules()


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text())


def imports(name: str, *, late: bool = True) -> Iterator[tuple[str, int]]:
    """Yield the modules of the package that *name* imports, each with its line.

    With *late* false, without imports inside functions and under `if TYPE_CHECKING`.
    """
    for node in ast.walk(tree_of(name)) if late else at_import(tree_of(name)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "redismetrics":
                    yield alias.name.partition(".")[2] or "__init__", node.lineno
        elif isinstance(node, ast.ImportFrom):
            source = imported_from(name, node)
            if source is not None:
                for alias in node.names:
                    full = f"{source}.{alias.name}".lstrip(".")
                    yield (full if full in MODULES else source or "__init__"), node.lineno


def imported_from(name: str, node: ast.ImportFrom) -> str | None:
    """Return the module of the package after `from`: "" for the package, None for others."""
    module = node.module or ""
    if node.level:
        parents = MODULES[name].relative_to(PACKAGE).parts[: -node.level]
        return ".".join([*parents, module] if module else parents)
    if module.partition(".")[0] == "redismetrics":
        return module.partition(".")[2]
    return None


def at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes that run when the module is imported."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if is_type_checking(node):
            continue
        waiting.extend(ast.iter_child_nodes(node))


def is_type_checking(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def package_of(module: str) -> str:
    return module.partition(".")[0]


def test_a_package_imports_only_what_its_row_allows() -> None:
    wrong = []
    for name in MODULES:
        package = package_of(name)
        if package in TOP:
            continue
        allowed = ALLOWED[package] | {package}
        # `python -m redismetrics.<package>` is a command: its `__main__` may use the client.
        if name.endswith(".__main__"):
            allowed |= CLIENT
        for target, line in imports(name):
            if package_of(target) not in allowed and target != "__init__":
                wrong.append(f"{name}:{line} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_modules_take_nothing_but_the_version_from_the_top() -> None:
    for name in MODULES:
        tree = tree_of(name)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and imported_from(name, node) == "":
                names = {alias.name for alias in node.names} - set(MODULES)
                assert names <= {"__version__"}, f"{name}:{node.lineno} imports {names}"


@pytest.mark.parametrize(("one", "other"), list(combinations(sorted(STATIONS), 2)))
def test_the_stations_of_a_sample_never_import_one_another(one: str, other: str) -> None:
    assert other not in ALLOWED[one]
    assert one not in ALLOWED[other]


def test_alerts_never_import_the_client() -> None:
    assert "client" not in ALLOWED["alerts"]


def test_every_package_has_a_row_and_every_row_a_package() -> None:
    assert {package_of(name) for name in MODULES} - TOP == set(ALLOWED) - PLANNED


def test_the_table_has_no_circles() -> None:
    done: list[str] = []
    for package, allowed in ALLOWED.items():
        assert allowed - {package} <= set(done), f"{package} is above its imports"
        done.append(package)


def test_modules_do_not_import_in_circles() -> None:
    edges = {name: {target for target, _ in imports(name, late=False)} for name in MODULES}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for target in edges[name] - {name}:
                visit(target, (*path, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def test_the_client_imports_optional_parts_inside_functions() -> None:
    for name in MODULES:
        if package_of(name) == "client":
            assert not {package_of(target) for target, _ in imports(name, late=False)} & LATE


@pytest.mark.parametrize(
    "module",
    RECORDING_ONLY + [name for name in MODULES if package_of(name) in {"client", "telemetry"}],
)
def test_recording_alone_loads_neither_redis_nor_numpy(module: str) -> None:
    full = "redismetrics" if module == "__init__" else f"redismetrics.{module}"
    code = f"import sys, {full}; sys.exit(','.join(sorted({HEAVY!r} & set(sys.modules))) or None)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_files_are_short_enough_to_read_at_one_sitting() -> None:
    paths = [*MODULES.values(), *ROOT.glob("lua/**/*.lua")]
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in paths}
    assert {path: count for path, count in lines.items() if count > MAX_LINES} == {}
    assert sorted(lines.values())[len(lines) // 2] < MAX_MEDIAN


def test_private_names_are_not_imported_from_another_module() -> None:
    found = set()
    for name in MODULES:
        tree = tree_of(name)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and imported_from(name, node) is not None:
                for alias in node.names:
                    if alias.name.startswith("_") and not alias.name.startswith("__"):
                        found.add((name, alias.name))
    assert found == set()


def test_messages_say_must_be_and_not_wanted() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in MODULES.values()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search("wanted .*got", line)
    ]
    assert found == []


def test_a_class_name_has_one_meaning() -> None:
    homes: dict[str, list[str]] = {}
    for name in MODULES:
        tree = tree_of(name)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(name)
    double = {name: where for name, where in homes.items() if len(where) > 1}
    assert set(double) == SAME_MEANING, double


def test_no_submodule_replaces_a_name_that_its_package_hands_on() -> None:
    """Importing `package.name` sets the attribute `name` of the package."""
    for package in PUBLIC:
        folder = PACKAGE.joinpath(*package.split("."))
        submodules = {path.stem for path in folder.iterdir()}
        assert not submodules & handed_on(package or "__init__"), package


def handed_on(package: str) -> set[str]:
    for node in tree_of(package).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


@pytest.mark.parametrize("package", [name for name in MODULES if "__init__" in MODULES[name].name])
def test_a_package_s_init_is_a_docstring_and_imports(package: str) -> None:
    tree = tree_of(package)
    assert ast.get_docstring(tree)
    body = tree.body[1:]
    if package.removeprefix("__init__") not in PUBLIC:
        assert not body
        return
    assert handed_on(package)
    for node in body:
        assert is_allowed_in_init(package, node), f"{package}:{node.lineno}"


def is_allowed_in_init(package: str, node: ast.stmt) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom) or is_type_checking(node):
        return True
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]) in {"__all__", "__version__"}
    if isinstance(node, ast.FunctionDef):
        # Load names at first use. The pytest plugin is in `testing`: every test run imports it.
        return package == "testing" and node.name == "__getattr__"
    # Without the extra, say which one is missing.
    return package == "api" and isinstance(node, ast.Try | ast.Delete)


def row(package: str) -> str:
    """Return the row of *package* in the table of CONTRIBUTING.md."""
    allowed = ALLOWED[package]
    names = [f"`{name}`" for name in ALLOWED if name in allowed]
    if allowed >= CLIENT:
        names = ["`client` and what it may import"]
        names += [f"`{name}`" for name in ALLOWED if name in allowed - CLIENT]
    late = [name for name in names if package == "client" and name.strip("`") in LATE]
    cell = ", ".join(name for name in names if name not in late) or "nothing"
    if late:
        cell += f"; inside functions {', '.join(late)}"
    planned = " (planned)" if package in PLANNED else ""
    return f"| `{package}`{planned} | {cell} |"


def test_the_table_for_contributors_is_this_table() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("### What may import what\n")[2]
    table = text.strip().partition("\n\n")[0].splitlines()
    rows = [row(package) for package in ALLOWED]
    rows.append("| `cli` | everything; nobody imports it |")
    assert table == ["| package | may import |", "|---|---|", *rows]
