"""Current values of every series as Prometheus or OpenMetrics text."""
