"""
The changes that `redismetrics.compat.prometheus_client` makes to the package `prometheus_client`.

    names.py        names and labels in Redis, and back
    values.py       what is behind `child._value`: a local number and a series
    children.py     makes these values, and declares the metrics
    callbacks.py    gauges whose value is a function
    label_sets.py   infos and enums
    removals.py     `remove` and `clear`
    existing.py     metrics that were made before `install`
    families.py     from Redis to `Metric` objects
    pages.py        what registries show
    asgi.py         `make_asgi_app` reads in a thread
    unavailable.py  pages without Redis
    seams.py        where prometheus_client is changed
    endings.py      ends of processes that `atexit` does not see
    installing.py   `install`
"""
