"""Every kind of distribution contains the scripts of the checkout."""

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import redismetrics
from tests.fixtures.servers import PROCESS_PATIENCE

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="session")
def scripts() -> dict[str, bytes]:
    """The scripts of the checkout, by their path in a wheel."""
    lua = ROOT / "lua"
    return {
        f"redismetrics/lua/{path.relative_to(lua).as_posix()}": path.read_bytes()
        for path in lua.rglob("*.lua")
    }


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="session")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extraction_filter = lambda member, _: member  # our own archive
        archive.extractall(folder)
    return next(folder.iterdir())


def build(what: str, source: Path, folder: Path) -> Path:
    """Build with the backend of pyproject.toml, without network; return the file."""
    hook = f"import sys; from hatchling import build; build.build_{what}(sys.argv[1])"
    command = [sys.executable, "-c", hook, folder]
    result = subprocess.run(
        command, cwd=source, capture_output=True, text=True, timeout=PROCESS_PATIENCE, check=False
    )
    assert result.returncode == 0, result.stderr
    return next(folder.iterdir())


def files(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def lua(members: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in members.items() if name.endswith(".lua")}


def test_the_checkout_has_scripts(scripts: dict[str, bytes]) -> None:
    assert {"redismetrics/lua/record.lua", "redismetrics/lua/include/slices.lua"} <= set(scripts)


def test_the_sdist_has_tests_but_no_third_party_data(unpacked: Path) -> None:
    assert (unpacked / "tests/promql/test_prometheus_scripts.py").exists()
    assert not (unpacked / "tests/data").exists()


def test_a_wheel_has_the_scripts(tmp_path: Path, scripts: dict[str, bytes]) -> None:
    members = files(build("wheel", ROOT, tmp_path))
    assert lua(members) == scripts
    assert {name.split("/")[0] for name in members} == {
        "redismetrics",
        f"redismetrics-{redismetrics.__version__}.dist-info",
    }


def test_a_wheel_has_the_files_of_the_web_page(tmp_path: Path) -> None:
    folder = ROOT / "redismetrics" / "api" / "page"
    pages = {path.relative_to(ROOT).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert "redismetrics/api/page/js/app.js" in pages
    assert pages <= set(files(build("wheel", ROOT, tmp_path)))


def test_an_installed_wheel_finds_its_own_scripts(tmp_path: Path) -> None:
    (tmp_path / "built").mkdir()
    installed = tmp_path / "installed"
    with zipfile.ZipFile(build("wheel", ROOT, tmp_path / "built")) as archive:
        archive.extractall(installed)
    lua = installed / "redismetrics" / "lua"
    (lua / "record.lua").write_text('-- @include "part"\n-- the wheel\'s own\n')
    (lua / "include" / "part.lua").write_text("-- included\n")
    code = "from redismetrics.store.scripts import script; print(script('record').text, end='')"
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", code]
    text = subprocess.check_output(command, cwd=tmp_path, env=environment, timeout=PROCESS_PATIENCE)
    assert text == b"-- included\n-- the wheel's own\n"


@pytest.mark.slow
def test_a_wheel_of_the_source_distribution_has_the_scripts(
    unpacked: Path, tmp_path: Path, scripts: dict[str, bytes]
) -> None:
    assert lua(files(build("wheel", unpacked, tmp_path))) == scripts


def test_an_editable_install_has_no_copy_of_the_scripts(tmp_path: Path) -> None:
    members = files(build("editable", ROOT, tmp_path))
    assert lua(members) == {}
    assert members["_redismetrics.pth"].decode().splitlines() == [str(ROOT)]


def test_the_source_distribution_has_the_tests_but_no_hidden_files(
    unpacked: Path,
) -> None:
    assert (unpacked / "tests" / "system" / "packaging" / "test_packaging.py").is_file()
    assert not (unpacked / ".ci").exists()


def test_the_version_is_the_same_everywhere(project: dict[str, Any]) -> None:
    assert project["version"] == redismetrics.__version__
    changes = (ROOT / "CHANGELOG.md").read_text().splitlines()
    newest = next(line for line in changes if line.startswith("## "))
    assert newest.split()[1] == redismetrics.__version__
