"""
PromQL on numpy columns: an expression and a source of series in, Prometheus' answer out.

    syntax_limits.py   one linear scan that bounds an expression before the parser sees it
    source.py          what a source is asked, and the columns that it answers with
    matchers.py        label matchers
    budget.py          bounds on time, samples and cells of one evaluation

Needs the extra `promql`. Semantics are those of Prometheus 3: windows are open on the left.
"""
