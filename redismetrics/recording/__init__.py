"""The way in: calls append to buffers, which are drained into batches and sent to `record.lua`.

In: names, tags, values. Out: batches that Redis applies once.
"""
