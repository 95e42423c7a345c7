"""The rule files of a process: found by patterns, and reloaded when they change."""

import glob
from collections.abc import Iterable
from pathlib import Path

from .expressions import check_expression
from .rule_file import load_rules
from .rules import Group
from .runner import group_name
from .yaml_nodes import InvalidFile

# Limits over all files of a process.
MAX_FILES = 1000
MAX_RULES = 20_000


def find_files(patterns: Iterable[str]) -> list[Path]:
    """Return the files that match *patterns*, in order and without duplicates.

    Raises:
        InvalidFile: If a pattern without wildcards matches no file, or there are over 1,000 files.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        paths = sorted(glob.glob(pattern, recursive=True))
        if not paths and not glob.has_magic(pattern):
            raise InvalidFile([f"{pattern}: no such file"])
        found.update((Path(path), None) for path in paths)
    if len(found) > MAX_FILES:
        raise InvalidFile([f"there must be at most {MAX_FILES} rule files, got {len(found)}"])
    return list(found)


def empty_patterns(patterns: Iterable[str]) -> list[str]:
    """Return the patterns with wildcards that name no file."""
    return [
        pattern
        for pattern in patterns
        if glob.has_magic(pattern) and next(glob.iglob(pattern, recursive=True), None) is None
    ]


def load_files(patterns: Iterable[str]) -> list[Group]:
    """Read all files that match *patterns*.

    Raises:
        InvalidFile: If a file cannot be read or is not valid, with all reasons and their files.
    """
    groups: list[Group] = []
    problems: list[str] = []
    for path in find_files(patterns):
        try:
            groups += load_rules(path, check_expression)
        except InvalidFile as error:
            problems += [f"{path}: {each}" for each in error.problems]
        except OSError as error:
            problems.append(f"{path}: {error.strerror or error}")
    problems += _repeated(groups)
    count = sum(len(group.rules) for group in groups)
    if count > MAX_RULES:
        problems.append(f"there must be at most {MAX_RULES} rules, got {count}")
    if problems:
        raise InvalidFile(problems)
    return groups


def _repeated(groups: Iterable[Group]) -> list[str]:
    seen: dict[str, str] = {}
    problems = []
    for group in groups:
        name = group_name(group)
        if name in seen:
            problems.append(
                f"{group.file}: group {group.name!r} is also in {seen[name]}; file names or "
                "group names must differ"
            )
        seen[name] = group.file
    return problems


class WatchedFiles:
    """Detects whether files have changed since the last check, by their names, times and sizes."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = tuple(patterns)
        self._seen = self._file_states()

    def _file_states(self) -> list[tuple[str, int, int]]:
        found = []
        for path in find_files(self._patterns):
            try:
                status = path.stat()
            except OSError:
                continue
            found.append((str(path), status.st_mtime_ns, status.st_size))
        return found

    def changed(self) -> bool:
        """Return whether any file has changed."""
        try:
            now = self._file_states()
        except InvalidFile:
            now = []
        before, self._seen = self._seen, now
        return now != before
