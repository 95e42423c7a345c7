"""Connect redismetrics to web frameworks, Celery, the process, OpenTelemetry, training libraries.

Each module is imported only where it is used, and may need an extra. All of them record with the
client that is passed in or the default client, and never disturb their host.
"""
