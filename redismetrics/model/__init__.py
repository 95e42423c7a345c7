"""What a metric is: names, tags, types, samples, time, windows, units and retention.

Other packages build on these values. Imports only errors; does no I/O.
"""
