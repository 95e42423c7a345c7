"""Alert and recording rules in Prometheus' format."""
