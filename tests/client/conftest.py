from tests.fixtures.queries import grouped, nowhere, other

__all__ = ["grouped", "nowhere", "other"]
