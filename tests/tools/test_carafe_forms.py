"""The forms that the benchmark of CARAFE compares compute the same."""

import keras
import numpy as np
import pytest

from keras_lrseg.layers import carafe
from tests.helpers import normal, run
from tools import carafe_forms


@pytest.mark.parametrize(("size", "scale"), [(3, 1), (5, 2)])
def test_every_form_is_the_same_sum(size, scale):
    x = normal("features", (2, 4, 6, 3))
    kernels = normal("kernels", (2, 4 * scale, 6 * scale, size**2))

    def reassemble(form):
        return run(lambda inputs: form([inputs[0]], inputs[1], scale)[0], [x, kernels])

    expected = reassemble(carafe)
    for form in (carafe_forms.shifts, carafe_forms.unfold):
        np.testing.assert_allclose(reassemble(form), expected, atol=1e-5)
    if keras.config.backend() == "torch":
        import torch

        planes = (torch.from_numpy(a).permute(0, 3, 1, 2) for a in (x, kernels))
        output = carafe_forms.torch_unfold(*planes).permute(0, 2, 3, 1)
        np.testing.assert_allclose(output, expected, atol=1e-5)
