"""Assignments cost what SciPy's cost, many at once and in a compiled graph."""

import numpy as np
import pytest

from keras_lrseg.training.matching import match
from tests.helpers import run

ROWS, COLUMNS = 6, 9


def problems():
    """Costs with and without ties, and how many rows each problem has."""
    rng = np.random.default_rng(0)
    random = rng.standard_normal((6, ROWS, COLUMNS))
    tied = rng.integers(0, 3, (4, ROWS, COLUMNS))
    alike = np.repeat(rng.standard_normal((2, 1, COLUMNS)), ROWS, axis=1)
    constant = np.zeros((1, ROWS, COLUMNS))
    far = 1e4 * rng.random((2, ROWS, COLUMNS))
    costs = np.concatenate([random, tied, alike, constant, far]).astype("float32")
    counts = np.arange(len(costs)) % (ROWS + 1)
    counts[-3:] = ROWS
    return costs, counts.astype("int32")


def matched(costs, counts):
    """The column of each row of each problem; the others have none."""
    owners = run(lambda x: match(*x), [costs, counts])
    assert owners.shape == (len(costs), costs.shape[2])
    columns = []
    for owner, count in zip(owners, counts, strict=True):
        taken = np.flatnonzero(owner >= 0)
        order = np.argsort(owner[taken])
        np.testing.assert_array_equal(owner[taken][order], np.arange(count))
        columns.append(taken[order])
    return columns


@pytest.mark.parametrize("columns", [COLUMNS, ROWS])
def test_sum_of_costs_is_that_of_scipy(columns):
    optimize = pytest.importorskip("scipy.optimize")
    costs, counts = problems()
    costs = costs[..., :columns]
    for cost, count, chosen in zip(costs, counts, matched(costs, counts), strict=True):
        cost = cost[:count].astype("float64")
        best = cost[optimize.linear_sum_assignment(cost)].sum()
        own = cost[np.arange(count), chosen].sum()
        assert own == pytest.approx(best, rel=1e-6, abs=1e-6)


def test_row_gives_up_its_best_column_where_the_sum_gains():
    costs = np.array([[[0, 1, 9], [0, 5, 9], [9, 0, 2]]], "float32")
    (columns,) = matched(costs, np.array([3], "int32"))
    np.testing.assert_array_equal(columns, [1, 0, 2])


def test_what_is_not_finite_is_chosen_last():
    costs = np.full((2, 2, 3), np.nan, "float32")
    costs[0, 0, 2] = costs[0, 1, 1] = 5
    costs[1, 0] = np.inf, 7, np.inf
    first, second = matched(costs, np.array([2, 2], "int32"))
    np.testing.assert_array_equal(first, [2, 1])
    assert second[0] == 1
