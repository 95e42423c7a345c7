"""The public API: `Metrics`, `AsyncMetrics` and the module-level functions."""
