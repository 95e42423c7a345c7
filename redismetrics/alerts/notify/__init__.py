"""Alert notifications: which receiver gets which alerts, and when."""
