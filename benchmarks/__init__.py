"""Figures that people can check: `python -m benchmarks --help` tells how they are taken."""
