"""The command `top`: all metrics in a terminal, refreshed as they are recorded."""
