"""Live samples over pub/sub.

In come the blocks that Redis publishes, and those that are read from the logs after a lost
connection; out go samples or summaries, through a bounded queue.
"""
