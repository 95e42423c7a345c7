"""Errors, exit statuses, help, completion and the start of the command line."""

import os
import re
import subprocess
import sys

import pytest

import redismetrics
from redismetrics import Metrics
from redismetrics.cli import options as options_module
from tests.fixtures.home import Home, needs_server
from tests.fixtures.shell import ROOT, Shell


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("increment", "a b"), "invalid metric name 'a b'"),
        (("increment", "orders", "-1"), "'orders'"),
        (("gauge", "depth", "nan"), "finite"),
        (
            ("gauge", "depth", "many"),
            "value must be a number, or - to read numbers from standard input, got 'many'",
        ),
        (("gauge", "depth", "1", "--tag", "shop"), "--tag must be K=V, got 'shop'"),
        (
            ("gauge", "depth", "1", "--tag", "a=1", "--tag", "a=2"),
            "--tag must have one value for 'a', got '1' and '2'",
        ),
        (("record", "x", "--metadata", "[1]"), "--metadata must be a JSON object, got '[1]'"),
        (
            ("record", "x", "--type", "sum"),
            "type must be counter, gauge, histogram, summary, info or stateset, got 'sum'",
        ),
        (("increment", "x", "--timestamp", "30h"), "samples were dropped, by reason: 1 too_old"),
        (("increment", "x", "--timestamp", "noon"), "--timestamp must be Unix seconds"),
        (("query", "x", "-a", "p101"), "unknown aggregation 'p101'"),
        (("query", "x", "-w", "1y"), "window must be"),
        (
            ("query", "x", "-w", "1h", "--since", "2h"),
            "--window cannot be used together with --since or --until",
        ),
        (
            ("query", "x", "--since", "2026-01-01T00:00:00"),
            "--since must be Unix seconds, ISO 8601 with a time zone",
        ),
        (("list", "--namespace", "a b"), "namespace must be"),
        (("list", "--url", "http://x"), "url must start with"),
        (
            ("top", "--sort", "colour"),
            "--sort must be one of name, type, series, rate, last, p95, got 'colour'",
        ),
        (("subscribe", "a b"), "got 'a b'"),
        (("clear",), "pass --yes to proceed"),
        (("measure", "x"), "(see redismetrics measure --help)"),
        (("qery",), "Did you mean 'query'? (see redismetrics --help)"),
        (("query", "x", "--windo", "1h"), "--window"),
        (("gauge", "x", "1", "--tagg", "a=b"), "did you mean '--tag'?"),
        (("top", "--sort", "nam"), "did you mean 'name'?"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(
    shell: Shell, wrong: tuple[str, ...], message: str
) -> None:
    status, out, err = shell(*wrong)
    assert (status, out) == (2, ""), err
    assert err.startswith("redismetrics: ")
    assert err.count("\n") == 1
    assert message in err


def test_an_unreachable_redis_gives_one_line_with_advice(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options_module, "FLUSH_SECONDS", 0.3)
    for command in (("increment", "x"), ("query", "x"), ("subscribe",), ("top", "--once")):
        status, out, err = shell(*command, "--url", "redis://user:geheim@127.0.0.1:1/0")
        assert (status, out) == (1, "")
        assert err.count("\n") == 1
        assert "127.0.0.1:1" in err
        assert "is Redis running? Set another server with --url or REDISMETRICS_URL" in err
        assert "geheim" not in err


@pytest.mark.slow
def test_the_shell_completes_commands_and_names(shell: Shell, filled: Metrics) -> None:
    def completed(line: str) -> list[str]:
        shell.environment |= {
            "_REDISMETRICS_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(line.count(" ")),
        }
        return shell.process()[1].split()

    assert completed("redismetrics get") == ["get-metrics"]
    assert completed("redismetrics query p") == ["paid"]
    assert completed("redismetrics query --namespace other p") == []
    shell.environment["REDISMETRICS_URL"] = "redis://127.0.0.1:1/0"
    assert completed("redismetrics query p") == []


def test_completion_is_installed_by_typer(shell: Shell) -> None:
    shell.environment["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
    status, out, _ = shell.process("--show-completion", "bash")
    assert status == 0
    assert "_REDISMETRICS_COMPLETE=complete_bash" in out


def test_every_command_has_help_that_loads_neither_numpy_nor_redis() -> None:
    code = (
        "import sys\nfrom redismetrics.cli.main import app, run\n"
        "import typer\ncommands = typer.main.get_command(app).commands\n"
        "for name, command in commands.items():\n"
        "    assert command.help, name\n"
        "    if name not in ('worker', 'export', 'embedded'):\n"
        "        assert run([name, '--help']) == 0, name\n"
        "        assert all(p.help for p in command.params if p.name != 'help'), name\n"
        "heavy = {'numpy', 'redis', 'pcodec', 'starlette'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_without_arguments_help_is_printed(shell: Shell) -> None:
    status, out, err = shell.process()
    assert status == 2
    assert "get-metrics" in out + err


WITHOUT = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == sys.argv[1]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
import redismetrics.cli.demo_run
from redismetrics.__main__ import main
sys.exit(main())
"""


def test_version_is_that_of_the_package(home: Home) -> None:
    assert home.run("--version") == (0, f"redismetrics {redismetrics.__version__}\n", "")


def test_an_unreachable_redis_is_one_line_without_the_password(home: Home) -> None:
    code, out, err = home.run("export", "--url", "redis://user:geheim@127.0.0.1:1/0")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "127.0.0.1:1" in err
    assert "geheim" not in err


@needs_server
def test_an_error_is_one_line(home: Home) -> None:
    environment = {**home.environment, "XDG_RUNTIME_DIR": "", "TMPDIR": str(home.folder / "open")}
    (home.folder / "open" / f"redismetrics-{os.geteuid()}").mkdir(parents=True)
    (home.folder / "open" / f"redismetrics-{os.geteuid()}").chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "redismetrics", "demo", "--seconds", "1", "--json"],
        cwd=home.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"redismetrics: .* is not safe: it must be a folder of user .*\n", done.stderr
    )


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [("demo", "--seconds", "0"), ("dmeo",), ("export", "--nothing")])
def test_a_wrong_command_line_exits_with_2(home: Home, wrong: tuple[str, ...]) -> None:
    code, out, err = home.run(*wrong)
    assert (code, out) == (2, "")
    assert "Traceback" not in err


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_the_error_says_what_to_install(home: Home, missing: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, missing],
        cwd=home.folder,
        env=home.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    sentence = "the command line needs: pip install 'redismetrics[cli]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", sentence)
