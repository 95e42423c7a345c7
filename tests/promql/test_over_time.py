"""Windows put together from the nodes of a tree."""

import numpy as np
import pytest

from redismetrics.promql.over_time import in_tree


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 1023])
@pytest.mark.parametrize("operation", [np.add, np.fmin, np.fmax])
def test_windows_of_a_tree_are_those_of_the_values(operation: np.ufunc, size: int) -> None:
    random_ = np.random.default_rng(size)
    values = random_.integers(-100, 100, size).astype(np.float64)
    if operation is not np.add:
        values[random_.random(size) < 0.2] = np.nan
    first = random_.integers(0, size, 500)
    last = first + 1 + random_.integers(0, size, 500) % (size - first)
    found = in_tree(operation, values, first, last)
    expected = [
        operation.reduce(values[begin:end])
        for begin, end in zip(first.tolist(), last.tolist(), strict=True)
    ]
    np.testing.assert_array_equal(found, expected)
