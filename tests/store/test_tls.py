"""TLS: a real server with certificates of our own authority, for both sides; and a replica."""

import asyncio
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from redismetrics import AsyncMetrics, Metrics, StoreUnavailable
from redismetrics.export import export
from tests.fixtures.clients import fail_to_send
from tests.fixtures.servers import (
    PATIENCE,
    PROCESS_PATIENCE,
    Server,
    ServerFailed,
    binaries,
    free_port,
    wait_in_step,
    wait_until,
)
from tests.fixtures.workers import new_worker

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="needs openssl to make certificates"
)


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["openssl", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=PROCESS_PATIENCE,
    )


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two authorities, ca and other; server and client certificates by ca."""
    folder = tmp_path_factory.mktemp("tls")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other"):
        openssl(
            folder,
            "req",
            "-x509",
            *key,
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.pem",
            "-subj",
            f"/CN={name}",
        )
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("server", "client"):
        openssl(
            folder,
            "req",
            *key,
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
            "-subj",
            f"/CN={name}",
        )
        openssl(
            folder,
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-set_serial",
            "1",
            "-out",
            f"{name}.pem",
            "-extfile",
            "names",
        )
    return folder


@pytest.fixture(scope="module")
def place(certificates: Path) -> Iterator[str]:
    """host:port of a server that speaks TLS alone, and with those alone who show a certificate."""
    yield from served(certificates)


def served(certificates: Path, *more: str) -> Iterator[str]:
    port = free_port()
    args = [
        *(
            "--tls-port",
            str(port),
            "--tls-cert-file",
            f"{certificates}/server.pem",
            "--tls-auth-clients",
            "yes",
        ),
        *(
            "--tls-key-file",
            f"{certificates}/server.key",
            "--tls-ca-cert-file",
            f"{certificates}/ca.pem",
        ),
    ]
    reasons = []
    for number, binary in enumerate(binaries()):
        folder = certificates / f"{number}{''.join(more[:1])}"
        folder.mkdir()
        try:
            server = Server.start(folder, binary, args=[*args, *more])
        except ServerFailed as error:  # it was built without TLS
            reasons.append(str(error).splitlines()[-1])
            continue
        with server:
            yield f"localhost:{port}"
        return
    pytest.skip(f"no server here speaks TLS: {reasons}")


def query_of(certificates: Path, authority: str = "ca") -> str:
    return (
        f"ssl_ca_certs={certificates}/{authority}.pem&ssl_certfile={certificates}/client.pem"
        f"&ssl_keyfile={certificates}/client.key"
    )


def test_a_client_with_a_certificate_records_queries_and_subscribes(
    place: str, certificates: Path, namespace: str
) -> None:
    url = f"rediss://{place}/0?{query_of(certificates)}"

    async def ask() -> float:
        async with (
            AsyncMetrics(url, namespace=namespace) as metrics,
            metrics.subscribe("jobs") as stream,
        ):
            metrics.increment("jobs", 4)
            await metrics.flush()
            sample = await stream.get(PATIENCE)
            assert (sample.name, sample.value) == ("jobs", 4)
            return await metrics.query("jobs", aggregation="sum")

    with Metrics(url, namespace=namespace) as metrics:
        metrics.increment("jobs", 3)
        assert metrics.query("jobs", aggregation="sum") == 3
        assert asyncio.run(ask()) == 7
        worker = new_worker(url, namespace)
        worker.pass_once()
        worker.leave()
        worker.store.close()
        assert metrics.query("jobs", aggregation="sum") == 7
        assert "jobs_total 7" in export(metrics=metrics)


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("", "(?i)certificate"),
        ("ssl_ca_certs={folder}/ca.pem", "(?i)certificate|closed|reset|broken pipe|EOF"),
        ("{other}", "(?i)certificate"),
    ],
    ids=["unknown authority", "no certificate of its own", "another authority"],
)
def test_an_untrusted_certificate_is_rejected_by_either_side(
    place: str, certificates: Path, namespace: str, query: str, why: str
) -> None:
    query = query.format(folder=certificates, other=query_of(certificates, "other"))
    with Metrics(f"rediss://{place}/0?{query}", namespace=namespace) as metrics:
        metrics.increment("jobs")
        fail_to_send(metrics)
        with pytest.raises(StoreUnavailable, match=why):
            metrics.flush(0.1)
        metrics.close(0.1)


@pytest.mark.slow
def test_a_cluster_with_tls(certificates: Path, namespace: str) -> None:
    cluster_of_one = served(
        certificates,
        "--cluster-enabled",
        "yes",
        "--tls-cluster",
        "yes",
        "--cluster-port",
        str(free_port()),
    )
    place = next(cluster_of_one)
    try:
        url = f"rediss://{place}?{query_of(certificates)}"
        with redis.Redis.from_url(url) as admin:
            admin.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16_383)
            wait_until(
                lambda: admin.cluster("info")["cluster_state"] == "ok", "the cluster is whole"
            )
        with Metrics(url.replace("rediss:", "rediss+cluster:"), namespace=namespace) as metrics:
            for number in range(10):
                metrics.increment(f"jobs_{number}")
            metrics.flush()
            assert [metrics.query(f"jobs_{number}", aggregation="sum") for number in range(10)] == [
                1
            ] * 10
    finally:
        cluster_of_one.close()


@pytest.mark.slow
def test_a_primary_behind_sentinels_with_tls(
    place: str, certificates: Path, namespace: str
) -> None:
    """The sentinel also requires TLS and a certificate of the client."""
    primary, query = place.replace("localhost", "127.0.0.1"), query_of(certificates)
    with redis.Redis.from_url(f"rediss://{primary}?{query}") as admin:
        program = admin.info("server")["executable"]
    port = free_port()
    configuration = certificates / "sentinel.conf"
    configuration.write_text(
        f"port 0\ntls-port {port}\nbind 127.0.0.1\ndir {certificates}\nrequirepass watch\n"
        f"tls-cert-file {certificates}/server.pem\ntls-key-file {certificates}/server.key\n"
        f"tls-ca-cert-file {certificates}/ca.pem\ntls-auth-clients yes\ntls-replication yes\n"
        f"sentinel monitor store {primary.replace(':', ' ')} 1\n"
    )
    silent = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    command = [program, configuration, "--sentinel"]
    sentinel = subprocess.Popen(command, **silent)  # type: ignore[call-overload]
    url = f"rediss+sentinel://127.0.0.1:{port}/store/0?{query}&sentinel_password=watch"
    try:

        def knows_it() -> bool:
            try:
                with redis.Redis.from_url(f"rediss://:watch@127.0.0.1:{port}?{query}") as client:
                    return bool(client.sentinel_master("store")["flags"] == "master")
            except redis.RedisError:
                return False

        wait_until(knows_it, "the sentinel reaches the primary")

        async def ask() -> float:
            async with AsyncMetrics(url, namespace=namespace) as metrics:
                metrics.increment("jobs", 4)
                await metrics.flush()
                return await metrics.query("jobs", aggregation="sum")

        with Metrics(url, namespace=namespace) as metrics:
            metrics.increment("jobs", 3)
            assert metrics.query("jobs", aggregation="sum") == 3
            assert asyncio.run(ask()) == 7
        bare = url.replace(
            f"&ssl_certfile={certificates}/client.pem&ssl_keyfile={certificates}/client.key", ""
        )
        assert bare != url
        for wrong in (
            bare,
            url.replace("=watch", "=geheim"),
            url.replace("rediss+", "redis+").replace(query, ""),
        ):
            with Metrics(wrong, namespace=namespace, socket_timeout=0.5) as metrics:
                metrics.increment("jobs")
                with pytest.raises(StoreUnavailable) as raised:
                    metrics.flush(0.5)
                assert "geheim" not in str(raised.value)
                metrics.close(0.1)
    finally:
        sentinel.kill()
        sentinel.wait()


# -- a replica -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_replica_answers_all_queries_and_a_subscription(
    fresh_server: Callable[..., Server], namespace: str
) -> None:
    primary = fresh_server(port=True, args=("--repl-diskless-sync-delay", "0"))
    replica = fresh_server(port=True, args=("--replicaof", "127.0.0.1", str(primary.port)))
    with (
        Metrics(primary.url, namespace=namespace) as owner,
        Metrics(replica.url, namespace=namespace) as reader,
    ):
        owner.increment("jobs", 3, tags={"a": "b"})
        owner.histogram("took", 2.5)
        owner.flush()
        worker = new_worker(primary.url, namespace)
        worker.pass_once()
        worker.leave()
        worker.store.close()
        owner.increment("jobs", 2, tags={"a": "b"})
        owner.flush()
        wait_in_step(primary, replica)
        assert reader.query("jobs", aggregation="sum") == 5
        assert reader.rollup("jobs", group_by="a", aggregations="sum") == {"b": {"sum": 5}}
        assert reader.query("took", aggregation="p95") == 2.5
        assert [row["name"] for row in reader.list_metrics()] == ["jobs", "took"]
        assert reader.get_stats()["storage"]["names"] == 2
        assert 'jobs_total{a="b"} 5' in export(metrics=reader)
        with reader.subscribe("jobs") as stream:
            owner.increment("jobs")
            owner.flush()
            assert stream.get(PATIENCE).value == 1
        reader.increment("jobs")  # reading never writes; recording is refused, and waits
        fail_to_send(reader)
        with pytest.raises(Exception, match=r"READONLY|read only"):
            reader.flush(0.1)
        assert reader.stats()["pending"] == 1
        reader.close(0.1)
