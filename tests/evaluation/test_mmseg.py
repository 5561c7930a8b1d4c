"""mmsegmentation's scores, windows and averages, number for number.

tests/golden/mmseg.npz holds what mmsegmentation 1.2.2 computes for the cases of
cases.py, every fifth row and column; `tools/check_mmseg.py --write` makes it and
compares everything.
"""

import pathlib

import numpy as np
import pytest

from tests.evaluation import cases

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "mmseg.npz"
STEP = 5


@pytest.fixture(scope="module")
def results():
    return cases.ours()


def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.mark.parametrize("name", golden())
def test_result_is_mmsegmentations(name, results):
    expected, result = golden()[name], results[name]
    if result.ndim > 1:
        result = result[::STEP, ::STEP]
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


def test_every_case_is_compared(results):
    assert set(results) == set(golden())
