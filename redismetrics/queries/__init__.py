"""The way out: a window is planned, fetched, grouped and aggregated.

In: a metric name, a window, tags, aggregations. Out: numbers, rows, samples or a digest.
"""
