from functools import partial

import keras
import numpy as np
import pytest

from keras_lrseg.layers import GroupNormalization, batch_norm
from tests.helpers import fill, images, numpy, refused


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float32", 1e-5), ("mixed_bfloat16", 0.02), ("bfloat16", 0.1)],
)
@pytest.mark.parametrize("size", [(7, 10), (1, 1)])
def test_batch_norm_is_keras_with_the_settings_of_pytorch(size, dtype, tolerance):
    ours = batch_norm(dtype=dtype)
    theirs = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=dtype)
    x = images(0, *size, batch=2)
    for layer in (ours, theirs):
        layer.build(x.shape)
        fill(layer)
    for training in (False, True, False):
        result, expected = (layer(x, training=training) for layer in (ours, theirs))
        assert result.dtype == expected.dtype
        result, expected = (numpy(y).astype("float32") for y in (result, expected))
        np.testing.assert_allclose(result, expected, tolerance, tolerance)
        for a, b in zip(numpy(ours.weights), numpy(theirs.weights), strict=True):
            np.testing.assert_allclose(a, b, 1e-6)


@pytest.mark.parametrize("settings", [{"axis": 1}, {"scale": False}, {"center": False}])
@pytest.mark.parametrize("make", [batch_norm, partial(GroupNormalization, 2)])
def test_other_axes_and_no_weights_are_refused(make, settings):
    with refused("last axis", *settings):
        make(**settings)
