"""Administer a server: `examine` it, and `copy` a namespace to another server or cluster."""

from .copying import copy
from .doctor import examine

__all__ = ["copy", "examine"]
