"""Metrics of what others built: web frameworks, Celery, the process itself. Each file is imported by who needs it."""
