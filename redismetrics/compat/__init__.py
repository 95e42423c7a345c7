"""Interfaces of other libraries, backed by Redis.

`prometheus_client` has the names of that package, with pages that cover all processes.
"""
