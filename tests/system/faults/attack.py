"""Attack a real `redismetrics serve` while honest clients record and query.

    python -m tests.system.faults.attack --seconds 60

Everything at once: slow headers and bodies, streams and large responses that nobody reads, gzip
bombs, crafted blocks and messages in Redis, names and tags without end. Meanwhile honest clients
record with `wait=true` and an `Idempotency-Key`, and repeat until they get a result; others query,
and measure `/healthz`. Prints what they experienced. The exit status is 0 if the memory of the
server stayed below 300 MB and the honest clients got all they are entitled to.
"""

import argparse
import asyncio
import contextlib
import gzip
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter as Tally
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import redis.asyncio

from redismetrics import Metrics
from redismetrics.store import keys
from tests.fixtures.servers import PATIENCE, Server, wait_until
from tests.system.faults.test_crafted_data import CRAFTED

ROOT = Path(__file__).parents[3]
NAMESPACE = "attacked"
# The most resident memory that the server may take in a short attack, in bytes.
MAX_BYTES = 300_000_000
SLOW_HEADS, SLOW_BODIES, UNREAD_STREAMS, UNREAD_ANSWERS, BOMBS, NAMERS = 600, 400, 100, 20, 4, 2
RECORDERS, ASKERS = 4, 2
HONEST = ("record", "query", "healthz")
# Samples whose metadata make a response of 31 MB.
LARGE_SAMPLES, METADATA_BYTES = 10_000, 3_000
# Bytes of crafted blocks in the log of one metric.
CRAFTED_BYTES = 22_000
BODY_BYTES = 4 << 20
_ESTABLISHED = b"\x01"


@dataclass(slots=True)
class Report:
    """What the clients experienced, and how much memory the server took."""

    seconds: float = 0.0
    # Attacks that were started, by kind.
    attacks: Tally[str] = field(default_factory=Tally)
    # Seconds of each response to an honest client, by kind, and failures by kind and status.
    answers: dict[str, list[float]] = field(default_factory=dict)
    failures: Tally[tuple[str, int]] = field(default_factory=Tally)
    recorded: int = 0
    stored: int = 0
    found: int = 0
    # Answers that lack confirmed samples, or have some that were never sent.
    contradictions: int = 0
    peak_bytes: int = 0
    log: str = ""

    def __str__(self) -> str:
        lines = [
            f"{self.seconds:.0f} s, peak of resident memory {self.peak_bytes / 1e6:.0f} MB",
            "attacks: " + ", ".join(f"{count} {kind}" for kind, count in self.attacks.items()),
        ]
        for kind, times in self.answers.items():
            failed = {code: n for (of, code), n in self.failures.items() if of == kind}
            ordered = sorted(times)
            lines.append(
                f"{kind}: {len(times)} answers, median {ordered[len(ordered) // 2]:.3f} s, "
                f"longest {ordered[-1]:.3f} s, failures by status {failed or 'none'}"
            )
        lines.append(
            f"honest samples: {self.recorded} recorded, {self.stored} confirmed, {self.found} found"
        )
        return "\n".join(lines)

    @property
    def wrong(self) -> list[str]:
        """Return the violations, as text."""
        found = [f"no answer to {kind}" for kind in HONEST if not self.answers.get(kind)]
        if not self.recorded == self.stored == self.found:
            found.append(
                f"{self.recorded} honest samples, {self.stored} confirmed, {self.found} found"
            )
        if self.contradictions:
            found.append(f"{self.contradictions} answers contradict what was confirmed")
        if self.peak_bytes >= MAX_BYTES:
            found.append(f"the server took {self.peak_bytes / 1e6:.0f} MB")
        found += [line for line in self.log.splitlines() if "BUG" in line or "Traceback" in line]
        return found


class Attack:
    """One run against the server at *port* and its Redis at *url*."""

    def __init__(self, port: int, url: str) -> None:
        self.port = port
        self.url = url
        self.report = Report()
        self._over = asyncio.Event()
        self._base = os.urandom(4).hex()
        self._bombs = _bombs()

    async def run(self, seconds: float, process_id: int, only: str) -> Report:
        """Attack for *seconds*, and longer until each honest client got an answer.

        *only* is one kind of attack, or empty for all.
        """
        began = time.monotonic()
        # New series are refused once others brought too many: those of honest clients are not new.
        for number in range(RECORDERS):
            await self._record_once(number, 0)
        kinds: dict[str, tuple[int, Callable[[int], Awaitable[None]]]] = {
            "slow headers": (SLOW_HEADS, self._slow_head),
            "slow bodies": (SLOW_BODIES, self._slow_body),
            "unread streams": (UNREAD_STREAMS, self._unread_stream),
            "unread answers": (UNREAD_ANSWERS, self._unread_answer),
            "gzip bombs": (BOMBS, self._bomb),
            "crafted blocks": (1, self._craft),
            "names and tags": (NAMERS, self._name),
        }
        hostile = [
            task
            for kind, (count, attack) in kinds.items()
            if only in ("", kind)
            for task in self._tasks(kind, count, attack)
        ]
        honest = [
            *(asyncio.create_task(self._record(number)) for number in range(RECORDERS)),
            *(asyncio.create_task(self._ask("query", self._query)) for _ in range(ASKERS)),
            asyncio.create_task(self._ask("healthz", self._health)),
        ]
        while time.monotonic() < began + seconds or (
            not all(self.report.answers.get(kind) for kind in HONEST)
            and time.monotonic() < began + seconds + PATIENCE
        ):
            await asyncio.sleep(0.2)
            self.report.peak_bytes = peak_bytes(process_id)
        # Honest clients finish what they have begun, under attack.
        self._over.set()
        await asyncio.wait(honest, timeout=4 * PATIENCE)
        for task in (*honest, *hostile):
            task.cancel()
        await asyncio.gather(*honest, *hostile, return_exceptions=True)
        self.report.seconds = time.monotonic() - began
        self.report.peak_bytes = peak_bytes(process_id)
        for task in honest:
            if not task.cancelled() and task.exception() is not None:
                raise task.exception()  # type: ignore[misc]
        return self.report

    # -- attackers --------------------------------------------------------------------------------

    def _tasks(
        self, kind: str, count: int, attack: Callable[[int], Awaitable[None]]
    ) -> list["asyncio.Task[None]"]:
        async def repeat(number: int) -> None:
            while True:
                self.report.attacks[kind] += 1
                with contextlib.suppress(OSError, asyncio.IncompleteReadError, redis.RedisError):
                    await attack(number)
                await asyncio.sleep(0.1)

        return [asyncio.create_task(repeat(number)) for number in range(count)]

    async def _slow_head(self, _: int) -> None:
        async with connected(self.port) as (_reader, writer):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
            while True:
                writer.write(b"X-Slow: 1\r\n")
                await writer.drain()
                await asyncio.sleep(1)

    async def _slow_body(self, _: int) -> None:
        async with connected(self.port) as (_reader, writer):
            writer.write(head("POST", "/api/record", {"Content-Length": "1000000"}))
            while True:
                writer.write(b" " * 1_000)
                await writer.drain()
                await asyncio.sleep(1)

    async def _unread_stream(self, _: int) -> None:
        async with connected(self.port, receive_bytes=4_096) as (_reader, writer):
            writer.write(head("GET", "/api/stream"))
            await until_closed(writer)

    async def _unread_answer(self, number: int) -> None:
        path = (f"/api/metrics?limit={LARGE_SAMPLES}&name=large", "/metrics")[number % 2]
        async with connected(self.port, receive_bytes=4_096) as (_reader, writer):
            writer.write(head("GET", path))
            await until_closed(writer)

    async def _bomb(self, number: int) -> None:
        body, kind = self._bombs[number % len(self._bombs)]
        await ask(
            self.port,
            "POST",
            "/v1/metrics",
            body,
            {"Content-Type": kind, "Content-Encoding": "gzip"},
        )

    async def _craft(self, _: int) -> None:
        async with redis.asyncio.from_url(self.url) as client:
            of, channel = keys.metric(NAMESPACE, 0, "bad"), keys.channel(NAMESPACE, "bad")
            await client.delete(of.log)
            for craft in CRAFTED.values():
                size, now_us = 0, round(time.time() * 1e6)
                while size < CRAFTED_BYTES:
                    block = craft(now_us)
                    await client.zadd(of.log, {block: now_us})
                    await client.publish(channel, block)
                    now_us, size = now_us + 1, size + len(block)
            for name in ("bad", "large"):
                await ask(self.port, "GET", f"/api/query?name={name}&aggregation=p95")
            await ask(self.port, "GET", "/api/metrics?name=bad")

    async def _name(self, number: int) -> None:
        unique = f"{self._base}{number}{time.monotonic_ns()}"
        names = [{"name": f"n{unique}_{n}"} for n in range(300)]
        values = (f"{unique}{n}".ljust(1_000, "x") for n in range(300))
        tags = [{"name": "tagged", "tags": {"t": value}} for value in values]
        for samples in (names, tags):
            await ask(self.port, "POST", "/api/record", json.dumps(samples).encode())

    # -- honest clients ---------------------------------------------------------------------------

    async def _record(self, number: int) -> None:
        """Record again and again."""
        attempt = 0
        while not self._over.is_set():
            attempt += 1
            await self._record_once(number, attempt)

    async def _record_once(self, number: int, attempt: int) -> None:
        """Record five samples; repeat the request until it has a result."""
        body = json.dumps([{"name": "honest", "tags": {"recorder": str(number)}}] * 5).encode()
        key = {"Idempotency-Key": f"{self._base}-{number}-{attempt}"}
        question = partial(ask, self.port, "POST", "/api/record?wait=true", body, key)
        self.report.recorded += 5
        while True:
            status, answer = await self._timed("record", question)
            if status == 200:
                self.report.stored += json.loads(answer)["stored"]
                return
            await asyncio.sleep(0.2)

    async def _ask(self, kind: str, question: Callable[[], Coroutine[Any, Any, int]]) -> None:
        while not self._over.is_set():
            await self._timed(kind, question)
            await asyncio.sleep(0.1)

    async def _query(self) -> Any:
        confirmed = self.report.stored
        status, answer = await ask(
            self.port, "GET", "/api/query?name=honest&aggregation=count&window=1h"
        )
        if status == 200:
            found = json.loads(answer)["results"]
            if not confirmed <= found <= self.report.recorded:
                self.report.contradictions += 1
        return status, answer

    async def _health(self) -> Any:
        return await ask(self.port, "GET", "/healthz")

    async def _timed(self, kind: str, question: Callable[[], Any]) -> tuple[int, bytes]:
        began = time.monotonic()
        status, answer = 0, b""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                status, answer = await question()
        if status == 200:
            self.report.answers.setdefault(kind, []).append(time.monotonic() - began)
        else:
            self.report.failures[kind, status] += 1
        return status, answer


# -- HTTP -----------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def connected(port: int, receive_bytes: int | None = None) -> Any:
    """Open a connection; *receive_bytes* bounds what the system receives without being read."""
    sock = socket.socket()
    sock.setblocking(False)
    if receive_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    writer = None
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 16)
        if receive_bytes is not None:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
        yield reader, writer
    finally:
        if writer is None:
            sock.close()
        else:
            writer.transport.abort()


def head(method: str, path: str, headers: dict[str, str] | None = None) -> bytes:
    """Return the head of a request."""
    given = {"Host": "localhost", "Content-Type": "application/json", **(headers or {})}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {text}" for name, text in given.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def ask(
    port: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """Send a request on a new connection; return status and body."""
    async with connected(port) as (reader, writer):
        length = {"Content-Length": str(len(body)), "Connection": "close"}
        writer.write(head(method, path, {**length, **(headers or {})}) + body)
        found = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", found.lower())
        answer = await (reader.readexactly(int(length[1])) if length else reader.read())
        return int(found.split()[1]), answer


async def until_closed(writer: asyncio.StreamWriter) -> None:
    """Wait until the other side has closed a connection that is not read."""
    sock = writer.get_extra_info("socket")
    # The first byte of TCP_INFO is the state.
    while sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == _ESTABLISHED:  # noqa: ASYNC110
        await asyncio.sleep(0.5)


def _bombs() -> list[tuple[bytes, str]]:
    json_type, protobuf_type = "application/json", "application/x-protobuf"
    many = b'{"resourceMetrics":[' + b",".join([b"{}"] * ((BODY_BYTES - 30) // 3)) + b"]}"
    deep = b"[" * (BODY_BYTES - 1)
    # Empty ResourceMetrics: field 1, length 0.
    empty = b"\x0a\x00" * (BODY_BYTES // 2 - 1)
    return [
        (gzip.compress(many), json_type),
        (gzip.compress(empty), protobuf_type),
        (gzip.compress(deep), json_type),
        (gzip.compress(b"\0" * (64 << 20)), protobuf_type),
    ]


# -- the server -----------------------------------------------------------------------------------


def peak_bytes(process_id: int) -> int:
    """Return the most resident memory that a process has had."""
    status = Path(f"/proc/{process_id}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found, status
    return int(found[1]) * 1024


@contextlib.contextmanager
def serving(url: str, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run `redismetrics serve`; yield the process and its port."""
    arguments = ("serve", "--port", "0", "--allow-write", "--url", url, "-n", NAMESPACE)
    with log.open("wb") as opened:
        process = subprocess.Popen(
            [sys.executable, "-m", "redismetrics", *arguments],
            cwd=ROOT,
            stdout=opened,
            stderr=opened,
        )
    try:
        wait_until(lambda: "serving on" in log.read_text(), "the server accepts requests")
        found = re.search(r"serving on http://[^\s]*:(\d+)", log.read_text())
        assert found
        yield process, int(found[1])
    finally:
        process.terminate()
        try:
            process.wait(2 * PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def fill(url: str) -> None:
    """Record what makes responses large, and the metrics that are attacked."""
    with Metrics(url, namespace=NAMESPACE, buffer_bytes=256 << 20) as metrics:
        text = "x" * METADATA_BYTES
        for number in range(LARGE_SAMPLES):
            metrics.record("large", 1.5, type="histogram", metadata={"text": text, "n": number})
            if number % 1_000 == 0:
                metrics.flush(PATIENCE)
        for number in range(5_000):
            metrics.increment("wide", tags={f"t{number % 10}": f"{number}".ljust(900, "w")})
        metrics.histogram("bad", 1.0)
        assert not metrics.flush(PATIENCE).dropped


def run(seconds: float, only: str = "") -> Report:
    """Start the servers, attack, and count what is stored at the end."""
    with tempfile.TemporaryDirectory(prefix="rm-") as folder, Server.start(Path(folder)) as server:
        fill(server.url)
        log = Path(folder) / "serve.log"
        with serving(server.url, log) as (process, port):
            report = asyncio.run(Attack(port, server.url).run(seconds, process.pid, only))
        report.log = log.read_text()
        with Metrics(server.url, namespace=NAMESPACE) as metrics:
            total = metrics.query("honest", aggregation="count", group_by="recorder")
            report.found = sum(row["count"] for row in total)
    return report


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.system.faults.attack",
        description="Attack a server while honest clients record and query.",
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="default: %(default)g")
    parser.add_argument("--only", default="", help="one kind of attack, such as 'gzip bombs'")
    given = parser.parse_args(argv)
    report = run(given.seconds, given.only)
    print(report)
    if report.wrong:
        print(report.log[-5_000:])
    for line in report.wrong:
        print(f"wrong: {line}")
    return int(bool(report.wrong))


if __name__ == "__main__":
    sys.exit(main())
