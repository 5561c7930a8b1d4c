"""Convolutions padded alike on every side, as PyTorch pads them.

Keras's "same" pads an even input of a stride-2 convolution on the bottom and right
only, which shifts the grid against the published weights.
"""

import math

import keras
import numpy as np
from keras import ops


def torch_uniform(fan_in: int):
    """PyTorch's default initialiser of a convolution: uniform, ±1/√fan_in."""
    limit = fan_in**-0.5
    return keras.initializers.RandomUniform(-limit, limit)


def kaiming_normal():
    """MMSegmentation's initialiser of a convolution: normal, deviation √(2/fan_out)."""
    return keras.initializers.VarianceScaling(2, "fan_out", "untruncated_normal")


@keras.saving.register_keras_serializable(package="keras_lrseg")
class SymmetricConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with `kernel_size // 2` zeros on each of the four sides.

    Takes the arguments of `keras.layers.Conv2D` but `padding` and `data_format`
    (channels_last). Kernel sizes are odd. The default initialiser is PyTorch's.

    Input: (B, H, W, C). Output: (B, ceil(H/stride), ceil(W/stride), filters).
    """

    def __init__(self, filters, kernel_size, strides=1, **kwargs):
        kwargs.setdefault(
            "kernel_initializer",
            keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
        )
        kwargs.update(padding="same", data_format="channels_last")
        super().__init__(filters, kernel_size, strides, **kwargs)
        if any(k % 2 == 0 for k in self.kernel_size):
            raise ValueError(
                "SymmetricConv2D expects odd kernel sizes. "
                f"Received: kernel_size={self.kernel_size}"
            )

    def convolve(self, x, kernel, bias=None):
        """PyTorch's convolution with tensors in place of the layer's weights."""
        spacing = self.strides, self._padding(), self.dilation_rate
        return _torch_conv2d(x, kernel.permute(3, 2, 0, 1), bias, *spacing, self.groups)

    def _padding(self):
        """Zeros above and below, and on the left and right."""
        sides = zip(self.kernel_size, self.dilation_rate, strict=True)
        return [dilation * (k // 2) for k, dilation in sides]

    def convolution_op(self, inputs, kernel):
        if keras.config.backend() == "torch":
            return self.convolve(inputs, ops.convert_to_tensor(kernel))
        if self.strides == (1, 1):
            return super().convolution_op(inputs, kernel)
        rows, columns = self._padding()
        inputs = ops.pad(inputs, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
        return ops.conv(inputs, kernel, self.strides, "valid", "channels_last")


@keras.saving.register_keras_serializable(package="keras_lrseg")
class PatchConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` over patches side by side: the stride is the kernel's size.

    Rows and columns behind the last whole patch are left out, as PyTorch does it. A map
    smaller than a patch is filled up with zeros to a single one.

    Takes the arguments of `keras.layers.Conv2D` but `strides`, `padding` and
    `data_format` (channels_last). The default initialiser is MMSegmentation's.

    Input: (B, H, W, C). Output: (B, max(H // k, 1), max(W // k, 1), filters).
    """

    def __init__(self, filters, kernel_size, **kwargs):
        kwargs.setdefault("kernel_initializer", kaiming_normal())
        kwargs.update(strides=kernel_size, padding="valid", data_format="channels_last")
        super().__init__(filters, kernel_size, **kwargs)

    def convolution_op(self, inputs, kernel):
        inputs = self._at_least_one_patch(inputs)
        if keras.config.backend() == "torch":
            kernel = ops.convert_to_tensor(kernel).permute(3, 2, 0, 1)
            spacing = self.strides, 0, self.dilation_rate
            return _torch_conv2d(inputs, kernel, None, *spacing, self.groups)
        return super().convolution_op(inputs, kernel)

    def _at_least_one_patch(self, x):
        height, width = ops.shape(x)[1:3]
        rows, columns = self.kernel_size
        if isinstance(height, int) and isinstance(width, int):
            missing = max(rows - height, 0), max(columns - width, 0)
            if missing == (0, 0):
                return x
        else:
            missing = ops.maximum(rows - height, 0), ops.maximum(columns - width, 0)
        return ops.pad(x, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)))

    def compute_output_shape(self, input_shape):
        batch, *size, _ = input_shape
        patches = (
            None if n is None else max(n // patch, 1)
            for n, patch in zip(size, self.kernel_size, strict=True)
        )
        return (batch, *patches, self.filters)


@keras.saving.register_keras_serializable(package="keras_lrseg")
class PointwiseConvolution(keras.layers.Dense):
    """1×1 convolution, computed as the matrix product that it is.

    Takes the arguments of `keras.layers.Dense`. The default initialiser is PyTorch's
    of a convolution.

    Input: (..., C). Output: (..., units).
    """

    def __init__(self, units, **kwargs):
        kwargs.setdefault(
            "kernel_initializer",
            keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
        )
        super().__init__(units, **kwargs)

    def call(self, inputs, training=None):
        kernel = ops.convert_to_tensor(self.kernel)
        bias = None if self.bias is None else ops.convert_to_tensor(self.bias)
        return self.convolve(inputs, kernel, bias)

    def convolve(self, x, kernel, bias=None):
        """The layer's output with tensors in place of its weights."""
        if keras.config.backend() == "torch":
            return self.activation(_torch_pointwise(x, kernel, bias))
        # A plain matrix, so that TensorFlow fuses product, bias and activation.
        flat = ops.reshape(x, (-1, kernel.shape[0]))
        y = self.activation(_linear(flat, kernel, bias))
        return ops.reshape(y, (-1, *ops.shape(x)[1:-1], self.units))


@keras.saving.register_keras_serializable(package="keras_lrseg")
class DepthwiseConvolution(keras.layers.Layer):
    """Depthwise convolution, optionally with a residual: `x + conv(x)`.

    One name for the form that is cheapest on each backend: TensorFlow's own operator,
    `conv2d` on a permuted view in PyTorch (`keras.ops` copies the layout three times),
    shifted multiply-adds on JAX's CPU. The residual is one added to the kernel's
    centre: no pass over the map.

    Args:
        kernel_size: odd side of the kernel, or its odd (rows, columns).
        strides: of both axes.
        residual: add the input to the output, with strides every so many pixels of it.
        use_bias: add a bias to each channel.
        kernel_initializer: None for PyTorch's default, uniform in ±1/√taps.

    Input: (B, H, W, C). Output: (B, ceil(H/strides), ceil(W/strides), C).
    """

    def __init__(
        self,
        kernel_size=3,
        strides=1,
        residual=False,
        use_bias=True,
        kernel_initializer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        sides = (kernel_size,) * 2 if isinstance(kernel_size, int) else kernel_size
        if len(sides) != 2 or any(side % 2 == 0 for side in sides):
            raise ValueError(
                "DepthwiseConvolution expects an odd kernel size, or two: (rows, "
                f"columns). Received: kernel_size={kernel_size}"
            )
        self.kernel_size = tuple(sides)
        self.strides = strides
        self.residual = residual
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        channels = input_shape[-1]
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*self.kernel_size, channels, 1),
            initializer=self.kernel_initializer
            or torch_uniform(math.prod(self.kernel_size)),
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias", shape=(channels,), initializer="zeros"
            )

    def call(self, x):
        kernel = ops.convert_to_tensor(self.kernel)
        if self.residual:
            kernel = self._with_identity(kernel)
        bias = None if self.bias is None else ops.convert_to_tensor(self.bias)
        return self.convolve(x, kernel, bias)

    def convolve(self, x, kernel, bias=None):
        """The convolution with tensors in place of the layer's weights."""
        return depthwise_convolution(x, kernel, bias, self.strides)

    def _with_identity(self, kernel):
        """The kernel that adds x to the convolution of x: 1 more in the centre."""
        centre = tuple(n // 2 for n in self.kernel_size)
        if keras.config.backend() == "torch":  # no constant from the host: a GPU waits
            kernel = kernel.clone()
            kernel[centre] += 1
            return kernel
        identity = np.zeros((*self.kernel_size, 1, 1), "float32")
        identity[centre] = 1
        return kernel + ops.cast(identity, kernel.dtype)

    def compute_output_shape(self, input_shape):
        batch, *size, channels = input_shape
        size = (None if n is None else -(-n // self.strides) for n in size)
        return (batch, *size, channels)

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "residual": self.residual,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def depthwise_convolution(x, kernel, bias=None, strides=1):
    """Depthwise convolution of x (B, H, W, C) with kernel (k, l, C, 1).

    Zeros pad it alike on every side: k//2 rows, l//2 columns.

    Args:
        bias: tensor (C,), or None.
    """
    rows, columns = (n // 2 for n in kernel.shape[:2])
    if keras.config.backend() == "torch":
        kernel, padding = kernel.permute(2, 3, 0, 1), (rows, columns)
        return _torch_conv2d(x, kernel, bias, strides, padding, groups=x.shape[3])
    if strides == 1 and on_jax_cpu():
        from keras_lrseg.layers import jax_depthwise

        y = jax_depthwise.depthwise_convolution(x, kernel[..., 0])
    elif strides == 1:
        y = ops.depthwise_conv(x, kernel, 1, "same", "channels_last")
    else:
        x = ops.pad(x, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
        y = ops.depthwise_conv(x, kernel, strides, "valid", "channels_last")
    return y if bias is None else y + bias


def pixelwise_product(x, matrix):
    """Pixels (B, H, W, C) times a matrix (C, K), or each image's own (B, C, K)."""
    if keras.config.backend() == "torch" and x.device.type == "cpu" and len(x):
        if matrix.ndim == 2:
            return _torch_pointwise(x, matrix, None)
        pairs = zip(x.split(1), matrix, strict=True)
        images = [_torch_pointwise(*pair, None) for pair in pairs]
        return images[0] if len(images) == 1 else ops.concatenate(images)
    _, height, width, channels = ops.shape(x)
    x = ops.reshape(x, (-1, height * width, channels))  # (B, N, C)
    x = ops.matmul(x, matrix)
    return ops.reshape(x, (-1, height, width, matrix.shape[-1]))


def _torch_conv2d(x, kernel, bias, strides=1, padding=0, dilation=1, groups=1):
    """PyTorch's convolution of the permuted view, which copies no layout.

    `keras.ops.conv` makes x contiguous in both directions. `torch.compile` leaves it
    alone: its compiler fails at such a view of a size that it does not know.
    """
    import torch

    convolve = torch.nn.functional.conv2d
    if torch.compiler.is_compiling():
        convolve = torch.compiler.disable(convolve)
    x = x.permute(0, 3, 1, 2)
    x = convolve(x, kernel, bias, strides, padding, dilation, groups)
    return x.permute(0, 2, 3, 1)


def _torch_pointwise(x, kernel, bias):
    """One operator for product and bias, where `keras.ops` takes two passes.

    On processors the convolution, which is oneDNN's: MKL's product took twice as long
    on AMD's.
    """
    import torch.nn.functional as F

    if x.ndim == 4 and x.device.type == "cpu":
        return _torch_conv2d(x, kernel.T[:, :, None, None], bias)
    return F.linear(x, kernel.T, bias)


def _linear(x, kernel, bias):
    x = ops.matmul(x, kernel)
    if bias is None:
        return x
    if keras.config.backend() == "tensorflow":
        # The very operator that TensorFlow's fusion with a GELU looks for.
        import tensorflow as tf

        return tf.nn.bias_add(x, bias)
    return x + bias


def on_jax_cpu() -> bool:
    """Whether JAX computes on processors, where XLA needs help."""
    if keras.config.backend() != "jax":
        return False
    import jax

    return jax.default_backend() == "cpu"
