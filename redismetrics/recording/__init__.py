"""From a recording call to Redis: buffers, batches, the send queue and record.lua.

In: names, tags, values. Out: numbered batches, each applied once by Redis. A call appends to the
buffer of its series (`recorder`); the `collector` drains the buffers into batches; the `sender`
sends them (`redis_sink` runs both).
"""
