import keras
import numpy as np
import pytest
from keras import ops

from keras_lrseg.layers import (
    DepthwiseConvolution,
    PointwiseConvolution,
    SymmetricConv2D,
)
from keras_lrseg.layers.convolution import kaiming_normal
from tests.helpers import fill, loss_and_gradients, normal, numpy, refused, run

SIZES = [(8, 12), (7, 5), (1, 2)]


def convolve_by_loops(x, kernel, strides):
    """Convolution with k//2, m//2 zeros on the sides, kernel (k, m, C_in, C_out)."""
    k, m = kernel.shape[:2]
    padded = np.pad(x, ((0, 0), (k // 2, k // 2), (m // 2, m // 2), (0, 0)))
    rows, columns = (range(0, n, strides) for n in x.shape[1:3])
    windows = [[padded[:, i : i + k, j : j + m] for j in columns] for i in rows]
    return np.einsum("ijbklc,klco->bijo", windows, kernel)


def convolve_depthwise_by_loops(x, kernel, strides):
    channels = [
        convolve_by_loops(x[..., c : c + 1], kernel[:, :, c : c + 1], strides)
        for c in range(x.shape[-1])
    ]
    return np.concatenate(channels, axis=-1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_convolution_pads_alike_on_every_side(size, strides, kernel_size):
    x = normal("images", (2, *size, 3))
    layer = SymmetricConv2D(4, kernel_size, strides)
    layer.build(x.shape)
    kernel, bias = fill(layer).get_weights()
    expected = convolve_by_loops(x, kernel, strides) + bias
    np.testing.assert_allclose(run(layer, x), expected, atol=1e-4)


@pytest.mark.parametrize("settings", [{"dilation_rate": 2}, {"groups": 2}])
def test_convolution_dilates_and_groups_as_keras_does(settings):
    x = normal("images", (2, 9, 12, 4))
    layer = SymmetricConv2D(6, 3, **settings)
    layer.build(x.shape)
    kernel, bias = fill(layer).get_weights()
    channels, part = 4 // settings.get("groups", 1), 6 // settings.get("groups", 1)
    step = settings.get("dilation_rate", 1)
    spread = np.zeros((2 * step + 1, 2 * step + 1, channels, 6))
    spread[::step, ::step] = kernel
    groups = [
        convolve_by_loops(
            x[..., i * channels : (i + 1) * channels],
            spread[..., i * part : (i + 1) * part],
            1,
        )
        for i in range(6 // part)
    ]
    expected = np.concatenate(groups, axis=-1) + bias
    np.testing.assert_allclose(run(layer, x), expected, atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("kernel_size", "strides", "residual"),
    [
        (3, 1, False),
        (3, 1, True),
        (3, 2, False),
        (5, 1, True),
        (3, 2, True),
        (5, 2, False),
        ((1, 21), 1, False),
        ((7, 1), 1, True),
        ((3, 5), 2, False),
    ],
)
def test_depthwise_convolution_equals_its_definition(
    size, kernel_size, strides, residual
):
    x = normal("features", (2, *size, 4))
    layer = DepthwiseConvolution(kernel_size, strides, residual)
    layer.build(x.shape)
    kernel, bias = fill(layer).get_weights()
    expected = convolve_depthwise_by_loops(x, kernel, strides) + bias
    if residual:
        expected += x[:, ::strides, ::strides]
    np.testing.assert_allclose(run(layer, x), expected, atol=1e-4)


@pytest.mark.parametrize("activation", [None, "relu"])
def test_pointwise_convolution_maps_each_pixel(activation):
    x = normal("features", (2, 3, 5, 4))
    layer = PointwiseConvolution(6, activation=activation)
    layer.build(x.shape)
    kernel, bias = fill(layer).get_weights()
    expected = x @ kernel + bias
    if activation == "relu":
        expected = np.maximum(expected, 0)
    np.testing.assert_allclose(run(layer, x), expected, atol=1e-5)


def test_depthwise_convolution_without_bias_has_a_kernel_only():
    layer = DepthwiseConvolution(use_bias=False)
    layer.build((None, 8, 8, 4))
    assert [tuple(w.shape) for w in layer.weights] == [(3, 3, 4, 1)]


@pytest.mark.parametrize(
    ("kernel_size", "strides", "residual"),
    [
        (3, 1, False),
        (3, 1, True),
        (5, 1, False),
        (3, 2, False),
        ((1, 7), 1, False),
        ((11, 1), 1, False),
        ((3, 5), 2, False),
    ],
)
def test_gradients_of_every_form_are_those_of_keras(kernel_size, strides, residual):
    def model(convolution):
        # The linear map in front shows the gradient that reaches the input.
        images = keras.Input((None, None, 3))
        return fill(keras.Model(images, convolution(keras.layers.Dense(4)(images))))

    def keras_form(x):
        rows, columns = np.broadcast_to(kernel_size, 2).tolist()
        y = keras.layers.ZeroPadding2D((rows // 2, columns // 2))(x)
        y = keras.layers.DepthwiseConv2D(kernel_size, strides)(y)
        return x + y if residual else y

    x = normal("images", (2, 9, 12, 3))
    ours = DepthwiseConvolution(kernel_size, strides, residual)
    loss, gradients = loss_and_gradients(model(ours), sum_of_squares, x)
    expected_loss, expected = loss_and_gradients(model(keras_form), sum_of_squares, x)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    for a, b in zip(gradients, expected, strict=True):
        assert abs(a.ravel() - b.ravel()).max() <= 1e-5 * abs(b).max()


def sum_of_squares(y):
    return ops.sum(y * y)


def test_kernels_start_as_pytorchs_do():
    depthwise = DepthwiseConvolution(3)
    depthwise.build((None, 8, 8, 512))
    ordinary = SymmetricConv2D(64, 3)
    ordinary.build((None, 8, 8, 16))
    pointwise = PointwiseConvolution(64)
    pointwise.build((None, 8, 8, 32))
    layers = ((depthwise, 9), (ordinary, 9 * 16), (pointwise, 32))
    for layer, fan_in in layers:
        kernel, bias = layer.get_weights()
        assert abs(kernel).max() <= fan_in**-0.5
        assert kernel.std() == pytest.approx((3 * fan_in) ** -0.5, rel=0.05)
        assert not bias.any()


@pytest.mark.parametrize("kernel_size", [(3, 4), (2, 3), (3,), (3, 3, 3)])
def test_sides_of_a_depthwise_kernel_are_two_odd_numbers(kernel_size):
    with refused("odd kernel size", "(rows, columns)", kernel_size):
        DepthwiseConvolution(kernel_size)


def test_depthwise_kernels_start_as_they_are_told():
    layer = DepthwiseConvolution((3, 5), kernel_initializer=kaiming_normal())
    layer.build((None, 8, 8, 512))
    assert layer.kernel.shape == (3, 5, 512, 1)
    # The deviation of mmsegmentation's convolutions, √(2/15) for fifteen taps.
    assert numpy(layer.kernel).std() == pytest.approx((2 / 15) ** 0.5, rel=0.05)


@pytest.mark.parametrize("make", [DepthwiseConvolution, SymmetricConv2D])
def test_even_kernel_is_refused(make):
    with refused("odd kernel size", "4"):
        make(kernel_size=4) if make is DepthwiseConvolution else make(8, 4)


@pytest.mark.slow
@pytest.mark.skipif(keras.config.backend() != "torch", reason="of torch.compile")
def test_convolutions_of_several_sizes_are_trained_by_torch_compile():
    model = keras.Sequential([keras.Input((None, None, 3))])
    for channels in (24, 24, 48):
        model.add(SymmetricConv2D(channels, 3, 2))
        model.add(keras.layers.BatchNormalization())
    model.compile("sgd", "mse", jit_compile=True)
    x, y = normal(0, (2, 64, 64, 3)), normal(1, (2, 8, 8, 48))
    model.train_on_batch(x, y)
    compiled = model.train_on_batch(x, y)
    assert 0 < float(compiled) < 10
