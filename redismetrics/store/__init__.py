"""Everything that speaks to Redis: URLs, connections, clusters, the embedded server, keys, scripts, catalogue.

Operations are generators that yield commands and receive replies; `driver` runs them, blocking or with asyncio.
"""
