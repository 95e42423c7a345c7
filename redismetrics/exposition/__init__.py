"""Current values of every series as Prometheus or OpenMetrics text.

In: definitions and totals from Redis. Out: families of series, and the page made from them.
"""
