"""Notifications of alerts: which receiver gets which alerts, and when."""
