import keras
import numpy as np
import pytest
from keras import ops

from keras_lrseg.layers.softmax import means_of_pixels, softmax
from tests.helpers import fill, loss_and_gradients, normal, numpy

SHAPE = (2, 3, 5, 7)


class SoftmaxOfWeights(keras.layers.Layer):
    def build(self, _):
        self.scores = self.add_weight(shape=SHAPE)

    def call(self, factors):
        return factors * softmax(ops.convert_to_tensor(self.scores))


def test_value_and_gradient():
    layer, factors = SoftmaxOfWeights(), normal("factors", SHAPE)
    layer.build(SHAPE)
    fill(layer)
    value, (gradient,) = loss_and_gradients(layer, ops.sum, factors)
    y = np.exp(numpy(layer.scores).astype("float64"))
    y /= y.sum(-1, keepdims=True)
    np.testing.assert_allclose(value, (factors * y).sum(), rtol=1e-5)
    total = (factors * y).sum(-1, keepdims=True)
    np.testing.assert_allclose(gradient, y * (factors - total), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_kept_and_computed_in_float32(dtype):
    x = ops.cast(ops.convert_to_tensor(normal("x", (4, 1000))), dtype)
    y = softmax(x)
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    total = numpy(ops.sum(ops.cast(y, "float32"), axis=-1))
    np.testing.assert_allclose(total, 1, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_means_of_pixels(dtype):
    x = ops.cast(normal("x", (2, 50, 70, 3)), dtype)
    scores = ops.cast(normal("scores", (2, 50, 70, 4)), dtype)
    means = means_of_pixels(x, scores)
    assert keras.backend.standardize_dtype(means.dtype) == dtype
    x, scores, means = (
        numpy(ops.cast(y, "float32")).astype("float64") for y in (x, scores, means)
    )
    weights = np.exp(scores)
    weights /= weights.sum((1, 2), keepdims=True)
    expected = np.einsum("bhwk,bhwc->bkc", weights, x)
    tolerance = {"float32": 1e-6, "float16": 1e-3, "bfloat16": 1e-2}[dtype]
    np.testing.assert_allclose(means, expected, rtol=tolerance, atol=tolerance)
