"""Many samples as numpy columns: summaries, t-digests, rollup tables, and their bytes. Pure: columns in, columns or bytes out."""
