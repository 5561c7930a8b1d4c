import math

import numpy as np

from keras_lrseg.layers.activation import gelu
from tests.helpers import run


def test_gelu_is_the_exact_one():
    x = np.linspace(-6, 6, 101, dtype="float32")
    exact = [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.tolist()]
    # The approximation by tanh is off by 5e-4.
    np.testing.assert_allclose(run(gelu, x), exact, atol=1e-6)
