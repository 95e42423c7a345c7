"""`redismetrics top`: all metrics, live, in a terminal."""
