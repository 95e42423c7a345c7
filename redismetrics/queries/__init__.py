"""Queries: plan a window, fetch its data, group it and aggregate it.

In: a `Query` (query.py) and the context it runs in. Out: an operation whose result is a value,
rows, samples or a digest.

    arguments.py      checks of arguments
    query.py          `Query` and `SamplesQuery`: what to read, checked once
    context.py        the namespace, cache and row limit of a client
    snapshot.py       first round trip: the state of a metric
    plan.py           which slots cover a window
    pages.py          second round trip: the fields of the plan; cache.py keeps them
    fetch.py          both trips joined; selection.py holds their result as columns
    slots.py          slots between the edges of many windows, and running totals
    newest_times.py   bounds of each metric's newest sample; samples.py reads few
    aggregate.py      groups and aggregations
    evaluate.py, time_series.py, samples.py       the kinds of results
    columns.py        time series and rollups as columns, of the largest groups
    heat_map.py       samples by interval and bucket of values
    runs.py           curves of runs by elapsed time or metadata; tags.py spreads samples over tags
    overview.py       many metrics at once, with their trends
    catalog.py, live.py, stats.py                 metrics and tags, current state, statistics
    json_results.py, json_ready.py                results ready for JSON
"""
