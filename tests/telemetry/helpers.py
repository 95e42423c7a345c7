"""An event, and the one sample recorded for it."""

from redismetrics import Metrics, Sample

COMPLETED = ("work", "job", "completed")


def only_sample(metrics: Metrics, name: str) -> Sample:
    (sample,) = metrics.query(name)
    assert isinstance(sample, Sample)
    return sample
