"""
The series that PromQL sees, built from the data in the store.

In: selectors. Out: an operation that returns a `Selected` for each of them.

    page.py            names of series, as on the Prometheus page
    chosen.py          which series of a metric a selector means, and their labels
    reads.py           what to read of a metric for a selector
    increments.py      what was recorded between the edges of windows, as columns
    samples.py         recorded samples as `SampledSeries`
    label_sets.py      infos and state sets
    counters.py        running totals, increases and rates
    buckets.py         histograms as `_bucket`, `_sum` and `_count`
    distributions.py   histograms under their own name
    answers.py         all of this for the selectors of an expression
    listing.py         series, labels and metadata

Gauges are their samples. Counters are exact changes, so nothing is extrapolated. Histograms are
both: counters per bucket, and distributions.
"""
