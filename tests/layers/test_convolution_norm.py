import keras
import numpy as np
import pytest

from keras_lrseg.layers import ConvolutionNorm
from tests.helpers import fill, images, loss_and_gradients, refused, run


@pytest.mark.parametrize(
    ("filters", "kernel_size", "strides"),
    [(4, 1, 1), (4, 3, 2), (4, 1, 2), (None, 3, 1), (None, 5, 2)],
)
@pytest.mark.parametrize("use_bias", [False, True])
def test_it_is_convolution_norm_and_activation(filters, kernel_size, strides, use_bias):
    # In inference PyTorch multiplies the norm into the kernel.
    layer = ConvolutionNorm(
        filters, kernel_size, strides, activation="relu", use_bias=use_bias
    )

    def steps(x):
        return keras.ops.relu(layer.norm(layer.convolution(x), training=False))

    x = images(0, 9, 14)
    layer.build(x.shape)
    fill(layer)
    layer.norm.moving_variance.assign(np.linspace(0.1, 2, layer.norm.gamma.shape[0]))
    np.testing.assert_allclose(run(layer, x), run(steps, x), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(keras.config.backend() != "torch", reason="is not folded there")
def test_folding_leaves_the_gradients_as_they_are(monkeypatch):
    layer = ConvolutionNorm(4, 3, use_bias=True)
    x = images(0, 8, 8)
    layer.build(x.shape)
    fill(layer)

    def gradients():
        return loss_and_gradients(layer, lambda y: (y**3).sum(), x)[1]

    folded = gradients()
    monkeypatch.setattr(ConvolutionNorm, "_is_folded", lambda *_: False)
    for ours, expected in zip(folded, gradients(), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4)


def test_another_norm_is_refused():
    with refused("batch", "group", "layer"):
        ConvolutionNorm(4, norm="layer")
