"""Push the current totals to other systems: Prometheus remote write, and OTLP over HTTP.

In: the totals that the Prometheus page shows. Out: requests to each target, with the same names and
labels. Only one process at a time pushes to a target.

    targets.py        a target: its protocol, its URL and its credentials
    credentials.py    headers out of files and the environment
    snapshot.py       the totals at one time of the server's clock
    ended_series.py   series that a snapshot lacks and the one before had
    request.py        a request before it is sent
    remote_write.py   requests of remote write 1.0
    otlp.py           requests of OTLP
    sender.py         makes the requests of a target, and sends them
    queue.py          what a target must still get: in order, bounded
    service.py        reads the totals at each interval, for the targets of which it has the lease
    page.py           the service's own metrics and health
"""
