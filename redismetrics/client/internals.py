"""Client internals for other packages of this project, not for applications."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from redismetrics.errors import InvalidQuery
from redismetrics.recording.internals import RecordingInternals
from redismetrics.recording.recorder import Recorder

if TYPE_CHECKING:
    from redismetrics.queries.context import QueryContext
    from redismetrics.store.connection import Store
    from redismetrics.store.driver import Operation
    from redismetrics.store.loop_clients import LoopClients

T = TypeVar("T")


class ClientInternals(RecordingInternals):
    """`RecordingInternals` of a client, with its store; ``none://`` has none."""

    def __init__(
        self,
        recorder: Recorder,
        store: "Store | None" = None,
        loops: "LoopClients | None" = None,
        query_context: "QueryContext | None" = None,
    ) -> None:
        super().__init__(recorder)
        self._store = store
        self._loops = loops
        self._query_context = query_context

    @property
    def has_store(self) -> bool:
        """False for ``none://``, which stores nothing and can't be queried."""
        return not self._recorder.discards

    @property
    def query_context(self) -> "QueryContext":
        """The namespace, query cache and row limit of this client's queries.

        Raises:
            InvalidQuery: For a client of ``none://``.
        """
        if self._recorder.discards:
            raise InvalidQuery("none:// stores nothing, so there is nothing to query")
        if self._query_context is None:  # a client of none://, in a capture
            from redismetrics.queries.cache import Cache
            from redismetrics.queries.context import QueryContext
            from redismetrics.store.namespace import Namespace

            self._query_context = QueryContext(Namespace(self.settings.namespace), Cache(0))
        return self._query_context

    def limit_rows(self, max_rows: int) -> None:
        """Make queries of this client raise `TooManyRows` above *max_rows*.

        Clients that share its recorder keep their own limit.
        """
        self._query_context = replace(self.query_context, max_rows=max_rows)

    def run(self, operation: "Operation[T]", *, flush: bool = False) -> T:
        """Run a store operation; with *flush*, first send what this process has recorded.

        Raises:
            StoreError: A subclass of it.
        """
        from redismetrics.store.driver import run

        self._recorder.sink.check_queries()
        assert self._store is not None, "BUG: an operation without a store"
        if flush:
            self._recorder.sink.flush_before_query()
        return run(self._store.client(), operation)

    async def arun(self, operation: "Operation[T]", *, flush: bool = False) -> T:
        """`run`, for asyncio."""
        from redismetrics.store.driver import arun

        self._recorder.sink.check_queries()
        assert self._loops is not None, "BUG: an operation without a store"
        if flush:
            await self._recorder.sink.aflush_before_query()
        return await arun(await self._loops.client(), operation)

    def check_store(self) -> None:
        """Raise `StoreUnavailable` if Redis doesn't answer now."""
        from redismetrics.store import server

        self.run(server.now())

    async def acheck_store(self) -> None:
        """`check_store`, for asyncio."""
        from redismetrics.store import server

        await self.arun(server.now())

    def close_archive(self) -> None:
        """Close the connections to the archive; the next query that needs them reopens them."""
        if self._query_context is not None and self._query_context.older is not None:
            self._query_context.older.close()

    def leave_embedded(self, timeout: float) -> None:
        """Stop using the embedded server, if it is used; the next use joins or starts it again.

        Waits at most *timeout* seconds for a worker in this process. For servers whose process is
        ended by a signal: nothing else would stop the embedded server.
        """
        if self._store is not None and self._store.is_embedded:
            self._recorder.sink.stop_worker(timeout)
            self._store.close()

    def mismatches(self) -> set[str]:
        """Return the names of metrics that have another type in Redis than in this process.

        Their samples are dropped.
        """
        return self._recorder.sink.mismatched()

    def silence_mismatches(self, names: Iterable[str]) -> None:
        """Note that the mismatches have been reported, so that `flush` does not raise them."""
        self._recorder.sink.silence_mismatches(names)

    def clear_mismatch(self, name: str) -> None:
        """Note that a metric no longer has another type in Redis, so that it can be recorded."""
        self._recorder.sink.clear_mismatch(name)
