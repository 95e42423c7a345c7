"""Fixtures of the tests that copy a namespace."""

from tests.fixtures.copies import filled

__all__ = ["filled"]
