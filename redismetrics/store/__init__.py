"""Everything that talks to Redis: URLs, connections, clusters, the embedded server, keys, scripts.

Operations are generators that yield commands and receive replies; `driver` runs them, blocking or
with asyncio, and `pipelines` sends many commands at once. KEYS and SCAN are never used.
"""
