"""Values of histogram points."""

from redismetrics.integrations.opentelemetry.buckets import ExplicitBuckets
from redismetrics.integrations.opentelemetry.points import HistogramValue


def test_histograms_with_changed_bounds_keep_count_and_sum() -> None:
    before = HistogramValue(3, 6.0, 1.0, 3.0, ExplicitBuckets((1.0, 2.0), (1, 1, 1)))
    same = HistogramValue(5, 8.0, 0.5, 3.0, ExplicitBuckets((1.0, 2.0), (3, 1, 1)))
    assert same.subtract(before) == HistogramValue(
        2, 2.0, None, None, ExplicitBuckets((1.0, 2.0), (2, 0, 0))
    )
    other = HistogramValue(5, 8.0, 0.5, 3.0, ExplicitBuckets((1.5,), (3, 2)))
    assert other.subtract(before) == HistogramValue(2, 2.0, None, None, None)
    restarted = HistogramValue(4, 9.0, 0.5, 3.0, ExplicitBuckets((1.0, 2.0), (0, 2, 2)))
    assert restarted.subtract(before) is None
    assert before.subtract(same) is None
