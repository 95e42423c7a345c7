"""Templates of alert labels, annotations and notifications: what Prometheus uses of Go's."""
