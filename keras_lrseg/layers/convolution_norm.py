"""Convolution, normalization and activation, the brick of most decoders."""

import keras
from keras import ops

from keras_lrseg.layers.convolution import (
    DepthwiseConvolution,
    PointwiseConvolution,
    SymmetricConv2D,
)
from keras_lrseg.layers.normalization import GroupNormalization, batch_norm


@keras.saving.register_keras_serializable(package="keras_lrseg")
class ConvolutionNorm(keras.layers.Layer):
    """Convolution padded alike on every side, normalization, activation.

    Args:
        filters: output channels; None for a depthwise convolution.
        kernel_size: odd side of the kernel.
        strides: stride of both axes.
        norm: "batch" (epsilon 1e-5), "group" (32 groups) or None.
        activation: name or function, for example "relu"; None for none.
        use_bias: of the convolution.
        kernel_initializer: of the convolution; None for PyTorch's default.

    Input: (B, H, W, C). Output: (B, ceil(H/strides), ceil(W/strides), filters).

    Raises:
        ValueError: if `norm` is none of the three.
    """

    def __init__(
        self,
        filters,
        kernel_size=1,
        strides=1,
        norm="batch",
        activation=None,
        use_bias=False,
        kernel_initializer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if norm not in ("batch", "group", None):
            raise ValueError(
                f'norm expects "batch", "group" or None. Received: norm={norm!r}'
            )
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.kind = norm
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        settings = {"use_bias": use_bias, "dtype": self.dtype_policy}
        settings["name"] = "convolution"
        if kernel_initializer is not None:
            settings["kernel_initializer"] = self.kernel_initializer
        if filters is None:
            self.convolution = DepthwiseConvolution(kernel_size, strides, **settings)
        elif kernel_size == 1 and strides == 1:
            self.convolution = PointwiseConvolution(filters, **settings)
        else:
            self.convolution = SymmetricConv2D(
                filters, kernel_size, strides, **settings
            )
        self.norm = None
        if norm is not None:
            make = batch_norm if norm == "batch" else GroupNormalization
            self.norm = make(name="norm", dtype=self.dtype_policy)

    def build(self, input_shape):
        self.convolution.build(input_shape)
        if self.norm is not None:
            self.norm.build(self.convolution.compute_output_shape(input_shape))

    def call(self, x, training=False):
        if self._is_folded(x, training):
            return self.activation(self._folded(x))
        x = self.convolution(x)
        if self.kind == "batch":
            x = self.norm(x, training=training)
        elif self.kind == "group":
            x = self.norm(x)
        return self.activation(x)

    def _is_folded(self, x, training):
        """Whether to multiply the norm into the kernel, as compilers do for inference.

        PyTorch runs as it is written, and the norm is a pass over the map there.
        """
        return (
            keras.config.backend() == "torch"
            and self.kind == "batch"
            and not (training and self.norm.trainable)
            and x.device.type == "cpu"
            and self.compute_dtype == "float32"  # in half, the sum would be rounded
        )

    def _folded(self, x):
        scale, bias = self.norm.inference_map()
        if self.use_bias:
            bias = bias + ops.convert_to_tensor(self.convolution.bias) * scale
        kernel = ops.convert_to_tensor(self.convolution.kernel)
        kernel = kernel * (scale[:, None] if self.filters is None else scale)
        return self.convolution.convolve(x, kernel, bias)

    def compute_output_shape(self, input_shape):
        return self.convolution.compute_output_shape(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "norm": self.kind,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
