"""What connects redismetrics to what others built. Each file is imported by who needs it, and may need an extra."""
