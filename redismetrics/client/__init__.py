"""What people hold: `Metrics`, `AsyncMetrics` and the module-level functions."""
