"""Recursion without Python's stack, because expressions may be nested deeper than it allows."""

from collections.abc import Generator
from typing import Any, TypeVar

T = TypeVar("T")

# A step of a recursive computation: it yields the steps it needs, receives their results, and
# returns its own.
Step = Generator["Step[Any]", Any, T]


def run(step: Step[T]) -> T:
    """Return the result of *step*."""
    waiting: list[Step[Any]] = [step]
    result: Any = None
    while waiting:
        try:
            waiting.append(waiting[-1].send(result))
            result = None
        except StopIteration as done:
            waiting.pop()
            result = done.value
    final: T = result
    return final
