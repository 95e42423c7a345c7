"""The data folder that a URL names."""

import sys
from pathlib import Path

import pytest

from redismetrics.errors import InvalidSetting
from redismetrics.store import embedded


class TestFolderOf:
    @pytest.mark.parametrize(
        ("url", "path"),
        [
            ("embedded:///a/folder", "/a/folder"),
            ("embedded:////a/folder/", "/a/folder"),
            ("EMBEDDED:///a%20b%3F", "/a b?"),
        ],
    )
    def test_is_the_path_decoded(self, url, path):
        assert embedded.folder_of(url) == Path(path)

    def test_is_the_data_folder_of_the_user_by_default(self, monkeypatch):
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setenv("HOME", "/home/ada")
        monkeypatch.setenv("XDG_DATA_HOME", "/data/ada")
        assert embedded.folder_of("embedded://") == Path("/data/ada/redismetrics")
        monkeypatch.setenv("XDG_DATA_HOME", "not/absolute")
        assert embedded.folder_of("embedded://") == Path("/home/ada/.local/share/redismetrics")
        monkeypatch.setattr(sys, "platform", "darwin")
        assert embedded.folder_of("embedded://") == Path(
            "/home/ada/Library/Application Support/redismetrics"
        )

    @pytest.mark.parametrize(
        ("url", "got"),
        [
            ("embedded://host/a", "with a host"),
            ("embedded://ada:secret@/a", "with a host"),
            ("embedded:///a?db=1", "with a query"),
            ("embedded:///a#b", "with a fragment"),
            ("embedded:///", "'/' for the folder"),
            ("embedded:a/folder", "'a/folder' for the folder"),
            ("embedded:", "'' for the folder"),
            ("embedded:///a%00b", "for the folder"),
            ("redis:///a", "the scheme 'redis'"),
            ("embedded://[", "not a URL"),
        ],
    )
    def test_refuses_anything_else_without_repeating_a_password(self, url, got):
        with pytest.raises(InvalidSetting, match=got) as caught:
            embedded.folder_of(url)
        assert "secret" not in str(caught.value)
