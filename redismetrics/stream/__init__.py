"""Live samples over pub/sub.

In: blocks published by Redis, and blocks read from the logs after a lost connection. Out: samples
or summaries, through a bounded queue.
"""
