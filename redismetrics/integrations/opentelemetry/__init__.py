"""OpenTelemetry: an exporter for the SDK, and a receiver of OTLP."""

from .exporter import RedisMetricsExporter

__all__ = ["RedisMetricsExporter"]
