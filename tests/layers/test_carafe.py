"""Reassembly against the authors' numbers and the sum as it is written."""

import numpy as np
import pytest

from keras_lrseg.layers import carafe
from tests.helpers import normal, refused, run
from tests.reference import assert_offseg, offseg_inputs


def reassemble(x, kernels, scale):
    return run(lambda inputs: carafe([inputs[0]], inputs[1], scale)[0], [x, kernels])


@pytest.mark.parametrize(("name", "scale"), [("k3s1g1", 1), ("k5s2g1", 2)])
def test_output_is_the_authors(name, scale):
    inputs = offseg_inputs(f"carafe_{name}")
    output = reassemble(inputs["features"], inputs["masks"], scale)
    assert_offseg(output, f"carafe_{name}/out")


def test_groups_are_maps_with_kernels_of_their_own():
    inputs = offseg_inputs("carafe_k3s2g2")
    halves = (np.split(inputs[key], 2, axis=-1) for key in ("features", "masks"))
    output = [reassemble(x, k, 2) for x, k in zip(*halves, strict=True)]
    assert_offseg(np.concatenate(output, -1), "carafe_k3s2g2/out")


def plain(x, kernels, scale):
    """The sum of shifted maps, each enlarged by repetition, in float64."""
    _, height, width, taps = kernels.shape
    size = round(taps**0.5)
    margin = (size // 2, size // 2)
    padded = np.pad(x.astype("float64"), ((0, 0), margin, margin, (0, 0)))
    output = 0
    for tap in range(taps):
        row, column = divmod(tap, size)
        moved = padded[:, row : row + x.shape[1], column : column + x.shape[2]]
        moved = moved.repeat(scale, 1).repeat(scale, 2)[:, :height, :width]
        output = output + moved * kernels[..., tap : tap + 1]
    return output


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("shape", [(1, 1), (8, 16), (9, 7), (11, 2)])
def test_output_is_the_sum_at_any_size(scale, size, shape):
    x = normal("features", (2, *(-(-n // scale) for n in shape), 3))
    kernels = normal("kernels", (2, *shape, size**2))
    expected = plain(x, kernels, scale)
    output = reassemble(x, kernels, scale)
    assert output.shape == expected.shape
    assert abs(output - expected).max() <= 1e-5 * expected.std()


def test_maps_may_share_kernels():
    maps = [normal(i, (1, 5, 6, channels)) for i, channels in enumerate((2, 7))]
    kernels = normal("kernels", (1, 10, 12, 25))
    together = run(lambda inputs: carafe(inputs[:2], inputs[2], 2), [*maps, kernels])
    for x, output in zip(maps, together, strict=True):
        np.testing.assert_allclose(
            output, reassemble(x, kernels, 2), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize(
    ("shape", "kernels", "word"),
    [
        ((1, 5, 6, 2), (1, 10, 13, 9), "(10, 13) pixels enlarge (5, 7)"),
        ((1, 4, 6, 2), (1, 10, 12, 9), "(1, 4, 6, 2)"),
        ((1, 5, 6, 2), (1, 10, 12, 16), "9 or 25 values a pixel. Received: 16"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(shape, kernels, word):
    with refused(word):
        carafe([np.zeros(shape, "float32")], np.zeros(kernels, "float32"), 2)
