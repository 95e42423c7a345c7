"""What a metric is: names, tags, types, samples, time, windows and retention. Imports nothing but errors; does no I/O."""
