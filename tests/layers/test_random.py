import keras
import numpy as np

from keras_lrseg.layers.random import uniform
from tests.helpers import numpy


def draws(seed, shape=(1000, 50), times=1):
    generator = keras.random.SeedGenerator(seed)
    return [numpy(uniform(shape, generator)) for _ in range(times)]


def test_numbers_are_uniform_and_independent():
    first, second = draws(3, times=2)
    other = draws(4)[0]
    for x in (first, second, other):
        assert x.dtype == np.float32
        assert 0 <= x.min() < x.max() < 1
        counts, _ = np.histogram(x, 20, (0, 1))
        # Chi-squared of 19 degrees of freedom: above 44 once in a thousand times.
        assert ((counts - 2500) ** 2 / 2500).sum() < 44
    pairs = [(first, second), (first, other), (first[:-1], first[1:])]
    for a, b in [*pairs, (first[:, :-1], first[:, 1:])]:
        # Five standard deviations of what independent numbers have.
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / a.size**0.5


def test_a_seed_repeats_and_calls_go_on():
    first, second = draws(7, (4, 3), times=2)
    again, _ = draws(7, (4, 3), times=2)
    np.testing.assert_array_equal(first, again)
    assert (first != second).all()
    assert (first != draws(8, (4, 3))[0]).all()


def test_two_samples_are_kept_alike_as_often_as_not():
    generator = keras.random.SeedGenerator(0)
    kept = np.stack([numpy(uniform((2,), generator)) for _ in range(400)]) > 0.5
    alike = (kept[:, 0] == kept[:, 1]).mean()
    assert abs(alike - 0.5) < 5 * 0.5 / 20  # five standard deviations


def test_keras_own_generator():
    assert numpy(uniform((2, 3))).shape == (2, 3)
