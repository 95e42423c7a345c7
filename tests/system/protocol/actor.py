"""A process in a run. At each `yield` others may run and time may pass."""

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, TypeVar

from tests.system.protocol.metric import Version
from tests.system.protocol.node import Node
from tests.system.protocol.rules import Rules
from tests.system.protocol.samples import Rows
from tests.system.protocol.slots import Cell
from tests.system.protocol.store import Store

if TYPE_CHECKING:
    from tests.system.protocol.runs import Run

T = TypeVar("T")

Steps = Generator[None, None, T]
Read = Callable[[Node], Rows]


class Actor:
    """A process in a run, as far as it uses one shard."""

    def __init__(self, run: "Run", name: str, store: Store) -> None:
        self.run = run
        self.name = name
        self.store = store
        self.rules = run.rules
        self.draw = run.draw

    def steps(self) -> Steps[None]:
        raise NotImplementedError

    def log(self, *words: object) -> None:
        self.run.log(self.name, *words)


def pipeline(
    store: Store, reads: Sequence[Callable[[Node], T]], replica: bool = False
) -> Steps[tuple[set[Version], list[T]]]:
    """Do several reads on one connection; return the versions before and after, and the results.

    Others may run in between. The connection stays with its server, also after a failover, when
    nothing writes to that server any more. So the version never goes back within a pipeline,
    except on a replica that follows another server.
    """
    primary = store.primary
    before = (store.standby if replica else primary).version
    results = []
    for read in reads:
        if store.draw.random() < 0.15:
            yield
        results.append(read(store.standby if replica else primary))
    return {before, (store.standby if replica else primary).version}, results


def reading(cell: Cell, rules: Rules) -> Read:
    return lambda node: node.row(cell, rules)
