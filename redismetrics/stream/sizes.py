"""Approximate memory of the items of a stream while they wait for the reader."""

from collections.abc import Mapping

from redismetrics.model.sample import Sample, Summary

# A sample without tags and metadata, and the time of each sample.
_ITEM = 400

# A metadata value: a small mapping is the largest, with 184 bytes and an entry in a list.
_OBJECT = 100


def item_bytes(tags: Mapping[str, str]) -> int:
    """Return the bytes of a sample or summary with these tags, without metadata."""
    return _ITEM + sum(len(key) + len(value) for key, value in tags.items())


def metadata_bytes(text: bytes) -> int:
    """Return an upper bound of the bytes of the metadata in *text*, JSON.

    Each value follows one of these characters. A string takes four bytes per character if any of
    them is outside the Basic Multilingual Plane.
    """
    values = sum(map(text.count, (b",", b":", b"[", b"{")))
    width = 1 if text.isascii() and b"\\" not in text else 4
    return width * len(text) + _OBJECT * values


def size_of(item: object) -> int:
    """Return the bytes of an item without further knowledge."""
    return item_bytes(item.tags) if isinstance(item, Sample | Summary) else _ITEM
