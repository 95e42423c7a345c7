"""Interfaces of other libraries over Redis.

`prometheus_client` has the names of that package, and the pages of all processes.
"""
