"""What connects redismetrics to other libraries; each file needs its own extra, and none is imported until asked for."""
