"""Many samples as numpy columns: summaries, t-digests, rollup tables, and their bytes.

In: columns or bytes. Out: columns or bytes. No I/O.
"""
