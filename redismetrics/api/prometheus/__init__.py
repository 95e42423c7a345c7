"""
Prometheus' HTTP API, so that its clients can read the store directly.

    envelope.py             responses and errors in Prometheus' form
    parameters.py           parameters; values.py reads times and durations
    evaluation.py           the client, limits and mapping that the endpoints share
    query_endpoints.py      query, query_range; rendering.py writes results
    catalog_endpoints.py    labels, label values, series, metadata
    exemplar_endpoints.py   query_exemplars
    rule_endpoints.py       rules, alerts
    status_endpoints.py     status, probes
    syntax_endpoints.py     format_query, parse_query; tree.py
    federate.py             current values as a page
    write_endpoint.py       remote write: received_series.py, and exposition's messages

Needs the extra `promql`, which is part of `server`.
"""
