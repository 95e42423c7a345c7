"""Current values of every series as Prometheus or OpenMetrics text.

In come definitions and the totals that Redis holds; out go families of series, and the page made
of them.
"""
