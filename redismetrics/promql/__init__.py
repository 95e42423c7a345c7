"""
PromQL on numpy columns. In: an expression and a source of series. Out: Prometheus' answer.

    tokens.py              one linear scan: bounds that protect the parser, places of errors
    parsing.py, nodes.py   promql-parser's tree with positions
    unknown_syntax.py      what the parser does not know: durations.py, `anchored`, `smoothed`
    prepare.py             which selectors an expression needs at which times, and the program
    source.py              what a source is asked, and the columns that it answers with
    budget.py              bounds on time, samples and series of one evaluation
    evaluate.py            runs the program: selectors, operators, aggregations, calls
    vectors.py             series by steps; distributions.py is the same of distributions
    windows.py             range vectors; over_time.py, rates.py, trends.py and extended.py are
                           functions of them
    joins.py               vector matching
    answer.py              the result, and the `data` object of Prometheus' HTTP API
    testing.py             series in memory
    mapping                the series that the store holds

Needs the extra `promql`. The semantics are those of Prometheus 3: windows are open on the left, and
names are dropped last (its feature flag promql-delayed-name-removal). Overflow and division by zero
are allowed, so `evaluate` turns numpy's warnings off.
"""
