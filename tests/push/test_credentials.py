"""Credentials: headers from files and the environment."""

from pathlib import Path

import pytest

from redismetrics.push.credentials import BadCredentials, Credentials, from_environment


def test_a_token_is_read_again_for_each_request(tmp_path: Path) -> None:
    file = tmp_path / "token"
    credentials = Credentials(token_file=str(file))
    file.write_text("one\n")
    assert credentials.headers() == {"Authorization": "Bearer one"}
    file.write_text("two\n")
    assert credentials.headers() == {"Authorization": "Bearer two"}


def test_a_login_and_other_headers(tmp_path: Path) -> None:
    (tmp_path / "basic").write_text("user:pass word\n")
    (tmp_path / "headers").write_text("X-Scope-OrgID: tenant\n\nDD-API-KEY:abc\n")
    credentials = Credentials(
        basic_file=str(tmp_path / "basic"), headers_file=str(tmp_path / "headers")
    )
    assert credentials.headers() == {
        "X-Scope-OrgID": "tenant",
        "DD-API-KEY": "abc",
        "Authorization": "Basic dXNlcjpwYXNzIHdvcmQ=",
    }


def test_the_environment() -> None:
    found = from_environment({"REDISMETRICS_PUSH_TOKEN": "abc"})
    assert found.headers() == {"Authorization": "Bearer abc"}
    found = from_environment({"REDISMETRICS_PUSH_BASIC_AUTH": "user:abc"})
    assert found.headers() == {"Authorization": "Basic dXNlcjphYmM="}
    assert "abc" not in repr(found)
    assert not from_environment({})


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("token_file", "", "empty file"),
        ("token_file", "hush\nX-Other: 1", "printable ASCII on one line"),
        ("token_file", "hüsh", "printable ASCII"),
        ("basic_file", "hush", "must be USER:PASSWORD"),
        ("headers_file", "hush", "each line must be NAME: VALUE"),
        ("headers_file", "hush hush: a", "each line must be NAME: VALUE"),
        ("headers_file", "A: hush\x00", "printable ASCII"),
    ],
)
def test_a_bad_file_is_named_and_not_shown(
    tmp_path: Path, kind: str, text: str, message: str
) -> None:
    file = tmp_path / "file"
    file.write_text(text)
    with pytest.raises(BadCredentials, match=message) as caught:
        Credentials(**{kind: str(file)}).headers()
    assert str(file) in str(caught.value)
    assert "hush" not in str(caught.value)
    assert "hüsh" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadCredentials, match=f"No such file.*{tmp_path}/none"):
        Credentials(token_file=str(tmp_path / "none")).headers()
