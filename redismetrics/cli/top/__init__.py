"""The command `top`: all metrics on a terminal, refreshed as they are recorded."""
