"""OpenTelemetry: an exporter for the SDK, and an OTLP receiver. Needs the extra `otel`.

Data points of the SDK (`exporter`) and of OTLP requests (`otlp_request`, `receiver`) become
`DataPoint` values (`points`, `naming`, `buckets`); `OtlpRecorder` records each of them once
(`otlp_recorder`, `stream_totals`, `distributions`).
"""

from .exporter import RedisMetricsExporter

__all__ = ["RedisMetricsExporter"]
