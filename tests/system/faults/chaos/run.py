"""One run: start the processes, disturb them at random, end them, and draw the balance."""

import contextlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.fixtures.servers import Server, wait_until
from tests.system.faults import proxy as proxies
from tests.system.faults.proxy import Proxy

from . import clocks
from .clocks import MovableServer
from .closing import Closing
from .facts import Book, Ledger
from .judge import Balance, Judge
from .processes import PATIENCE, Writer, kill, spawn
from .readers import Reader, Subscriber

WRITERS, WORKERS = 4, 2
# `config set` of what SIGTERM saves: an RDB file beside the append-only file, or nothing.
SAVES = {"with save": "3600 1", "without save": ""}


class Chaos:
    """One run; a context manager that ends all processes."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        report: Callable[[str], None] = lambda _: None,
        *,
        guarded: bool = True,
        movable: bool | None = None,
    ) -> None:
        self.movable = clocks.movable() if movable is None else movable
        self.folder, self.seed, self._report, self._guarded = folder, seed, report, guarded
        self.base_ms = int(time.time() * 1000)
        self.ledger = Ledger(seed, self.base_ms)
        self.balance = Balance()
        self.writers: list[Writer] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        self.judge = Judge(self.ledger, self.writers, self.balance)
        self._chance = random.Random(seed)
        self._stack = contextlib.ExitStack()
        self._over = threading.Event()
        self._subscribers: list[Subscriber] = []
        # The clock of the server is far from that of all writers.
        self._far = False
        self.server: Server

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            kind = MovableServer if self.movable else Server
            self.server = stack.enter_context(
                kind.start(
                    self.folder,
                    args=("--appendfsync", "always", "--auto-aof-rewrite-min-size", "8mb"),
                    movable_clock=self.movable,
                )
            )
            self.proxy = stack.enter_context(Proxy(self.server, unix=True))
            stack.callback(self._kill_all)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._stack.close()

    def _kill_all(self) -> None:
        for process in [*(writer.process for writer in self.writers), *self.workers]:
            kill(process)

    @property
    def errors(self) -> Path:
        """The log of the processes."""
        return self.folder / "errors"

    def run(self, seconds: float) -> Balance:
        """Disturb everything for *seconds*, end it cleanly, and return the balance."""
        self.proxy.lose_replies(1_000_000, every=7)
        for _ in range(WRITERS):
            self.start_writer()
        for _ in range(WORKERS):
            self.start_worker()
        reader = Reader(self.server.url, self.writers, self.judge, self._over)
        reading = threading.Thread(target=reader.run, name="chaos-reader")
        reading.start()
        for slow in (False, True):
            self._subscribers.append(Subscriber(self.server.url, self.judge, slow=slow))
            self._subscribers[-1].start()
        try:
            for subscriber in self._subscribers:
                wait_until(subscriber.subscribed.is_set, "the subscriber is connected", PATIENCE)
            for writer in self.writers:
                self._wait_for(writer)
            self._disturb(seconds)
        finally:
            self._over.set()
            reading.join()
            if sys.exc_info()[0] is not None:
                for subscriber in self._subscribers:
                    subscriber.all_sent.set()
        self._end_all()
        for subscriber in self._subscribers:
            subscriber.all_sent.set()
        for subscriber in self._subscribers:
            subscriber.join()
        if self.balance.wrong:
            return self.balance
        closing = Closing(self.server, self.ledger, self.writers, self.judge, self.balance)
        closing.draw(self._subscribers)
        return self.balance

    def _disturb(self, seconds: float) -> None:
        actions = (
            [self.kill_writer] * 4
            + [self.end_writer] * 3
            + [self.kill_worker] * 2
            + [self.kill_server] * 2
            + [self.end_server] * 2
            + [self.move_writer_clock] * 2
            + [self.pause_server, self.forget_scripts, self.cut_connections]
            + [self.misplace_writer_clock]
        )
        needed = {
            "worker killed": self.kill_worker,
            "writer killed": self.kill_writer,
            "writer ended": self.end_writer,
            "server killed": self.kill_server,
            "server ended": self.end_server,
            "writer clock moved": self.move_writer_clock,
            "writer clock far away": self.misplace_writer_clock,
        }
        if self.movable:
            actions += [self.move_server_clock] * 2 + [self.misplace_server_clock]
            needed["server clock moved"] = self.move_server_clock
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.balance.wrong:
            time.sleep(self._chance.random() * 0.6)
            self._chance.choice(actions)()
        # On a busy machine a short run does little.
        for what, action in needed.items():
            if not self.balance.wrong and not any(
                did.startswith(what) for did in self.balance.events
            ):
                action()

    # -- writers and workers --------------------------------------------------------------------

    def start_writer(self) -> None:
        number = len(self.writers)
        path = self.folder / f"writer-{number}"
        book = Book(path)
        url = self.proxy.url if number % 2 else self.server.url
        process = spawn(
            "write" if self._guarded else "write-unguarded",
            url,
            path,
            self.seed,
            number,
            self.base_ms,
            errors=self.errors,
        )
        self.writers.append(Writer(number, book, process, exposed=self._far))

    def start_worker(self) -> None:
        self.workers.append(spawn("work", self.server.url, errors=self.errors))

    def _wait_for(self, writer: Writer) -> None:
        wait_until(lambda: writer.book.recorded, f"writer {writer.number} records", PATIENCE)

    def _alive(self) -> Writer:
        """Return a writer that runs and has recorded; the books of others are empty."""
        writer = self._chance.choice([each for each in self.writers if each.process.poll() is None])
        self._wait_for(writer)
        return writer

    def kill_writer(self) -> None:
        writer = self._alive()
        kill(writer.process)
        writer.killed = True
        self._did("writer killed", f"{writer.number} at {writer.book.recorded}")
        self.start_writer()

    def end_writer(self) -> None:
        writer = self._alive()
        writer.process.terminate()
        self._did("writer ended", str(writer.number))
        self._await(writer)
        self.start_writer()

    def kill_worker(self) -> None:
        victim = self._chance.randrange(WORKERS)
        kill(self.workers[victim])
        self._did("worker killed", str(victim))
        self.workers[victim] = spawn("work", self.server.url, errors=self.errors)

    # -- the server -----------------------------------------------------------------------------

    def kill_server(self) -> None:
        pid = self.server.pid
        self.server.kill()
        clocks.remove_shared_memory(pid)
        self._did("server killed")
        time.sleep(self._chance.random() * 0.3)
        self.server.restart()

    def end_server(self) -> None:
        how = self._chance.choice(sorted(SAVES))
        with self.server.client() as admin:
            admin.config_set("save", SAVES[how])
        if isinstance(self.server, MovableServer):
            self.server.shut_down()
        else:
            self.server.stop()
        self._did(f"server ended {how}")
        time.sleep(self._chance.random() * 0.3)
        self.server.restart()

    def pause_server(self) -> None:
        self.server.pause()
        self._did("server paused")
        time.sleep(self._chance.random() * 0.8)
        self.server.resume()

    def forget_scripts(self) -> None:
        with self.server.client() as admin:
            admin.script_flush()
        self._did("scripts flushed")

    def cut_connections(self) -> None:
        with self.server.client() as admin:
            admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes")
        self._did("connections cut")

    # -- clocks ---------------------------------------------------------------------------------

    def move_server_clock(self) -> None:
        self._set_server_clock(self._chance.choice(clocks.SMALL_SERVER), "moved")

    def misplace_server_clock(self) -> None:
        """Move the clock so far that all samples are dropped, and back after a moment."""
        assert isinstance(self.server, MovableServer)
        before = self.server.offset
        self._far = True
        for writer in self.writers:
            writer.exposed = writer.exposed or writer.process.poll() is None
        self._set_server_clock(self._chance.choice(clocks.LARGE_SERVER), "far away")
        time.sleep(0.2 + self._chance.random())
        self._set_server_clock(before, "back")
        self._far = False
        self._settle([writer for writer in self.writers if writer.process.poll() is None])

    def _set_server_clock(self, offset: float, how: str) -> None:
        assert isinstance(self.server, MovableServer)
        self.server.move_clock(offset)
        self._did(f"server clock {how}", f"{offset:+g} s")

    def move_writer_clock(self) -> None:
        writer, offset = self._alive(), self._chance.choice(clocks.SMALL_WRITER)
        writer.book.offset_ms = round(offset * 1000)
        self._did("writer clock moved", f"{writer.number}: {offset:+g} s")

    def misplace_writer_clock(self) -> None:
        """Move the clock so far that samples are dropped, and back after a moment."""
        writer, offset = self._alive(), self._chance.choice(clocks.LARGE_WRITER)
        writer.exposed = True
        writer.book.offset_ms = round(offset * 1000)
        self._did("writer clock far away", f"{writer.number}: {offset:+g} s")
        time.sleep(0.2 + self._chance.random())
        writer.book.offset_ms = 0
        self._settle([writer])

    def _settle(self, writers: list[Writer]) -> None:
        """Wait until all is settled that was recorded before the clocks agreed again.

        From then on nothing more may be dropped.
        """
        # One more may be on its way with the time of the wrong clock.
        recorded = {writer.number: writer.book.recorded + 1 for writer in writers}
        for writer in writers:
            wait_until(
                lambda writer=writer: writer.book.confirmed > recorded[writer.number],
                f"writer {writer.number} gets its samples confirmed",
                PATIENCE,
            )
            writer.settled = writer.book.dropped

    # -- the end --------------------------------------------------------------------------------

    def _did(self, what: str, which: str = "") -> None:
        self.balance.events[what] += 1
        self._report(f"{time.time() - self.base_ms / 1000:7.2f} s  {what} {which}")

    def _await(self, writer: Writer) -> None:
        writer.process.wait(PATIENCE)
        if writer.process.returncode:
            self.judge.wrong(f"writer {writer.number} ended with {writer.process.returncode}")

    def _end_all(self) -> None:
        self.proxy.lose_replies(0)
        for writer in self.writers:
            if writer.process.poll() is None:
                self._wait_for(writer)
                writer.process.terminate()
        for writer in self.writers:
            if not writer.killed:
                self._await(writer)
        for process in self.workers:
            process.terminate()
            # -SIGTERM: it ended before it had installed its signal handler.
            if process.wait(PATIENCE) not in (0, -signal.SIGTERM):
                self.judge.wrong(f"a worker ended with {process.returncode}")


def run(
    seconds: float,
    seed: int,
    report: Callable[[str], None] = lambda _: None,
    *,
    guarded: bool = True,
    movable: bool | None = None,
) -> tuple[Balance, str]:
    """Run once in a temporary folder; return the balance and the log of the processes.

    *movable*: move the clock of the server. None: if it can be moved.
    """
    folder = Path(tempfile.mkdtemp(prefix="rm-chaos-", dir=tempfile.gettempdir()))
    proxies.QUIET = 0.002
    try:
        with Chaos(folder, seed, report, guarded=guarded, movable=movable) as chaos:
            balance = chaos.run(seconds)
            return balance, chaos.errors.read_text(errors="replace")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def bugs(log: str) -> list[str]:
    """Return the lines of the log that report a bug."""
    return [line for line in log.splitlines() if "BUG:" in line or "Traceback" in line]
