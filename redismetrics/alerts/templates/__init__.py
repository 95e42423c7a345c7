"""Templates of alert labels, annotations and notifications: Prometheus' subset of Go templates."""
