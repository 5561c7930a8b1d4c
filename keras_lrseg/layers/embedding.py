"""Convolutional stem of LRFormer, and overlapped patch embedding."""

import keras

from keras_lrseg.layers.activation import gelu
from keras_lrseg.layers.convolution import SymmetricConv2D
from keras_lrseg.layers.normalization import batch_norm


@keras.saving.register_keras_serializable(package="keras_lrseg")
class ConvolutionalStem(keras.layers.Layer):
    """Four 3×3 convolutions to a quarter of the size, then layer normalization.

    C/2 stride 2, BN, GELU; C/2, BN, GELU; C stride 2, BN, GELU; C.

    Args:
        channels: C, even.

    Input: (B, H, W, 3). Output: (B, ceil(H/4), ceil(W/4), channels).
    """

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        if channels % 2:
            raise ValueError(
                f"channels expects an even number. Received: channels={channels}"
            )
        self.channels = channels
        dtype = {"dtype": self.dtype_policy}
        widths = (channels // 2, channels // 2, channels, channels)
        self.convolutions = [
            SymmetricConv2D(width, 3, strides, name=f"convolution{i}", **dtype)
            for i, (width, strides) in enumerate(
                zip(widths, (2, 1, 2, 1), strict=True), 1
            )
        ]
        self.norms = [batch_norm(name=f"norm{i}", **dtype) for i in (1, 2, 3)]
        self.last_norm = keras.layers.LayerNormalization(
            epsilon=1e-6, name="last_norm", **dtype
        )

    def build(self, input_shape):
        for i, convolution in enumerate(self.convolutions):
            convolution.build(input_shape)
            input_shape = convolution.compute_output_shape(input_shape)
            norm = self.norms[i] if i < len(self.norms) else self.last_norm
            norm.build(input_shape)

    def call(self, x, training=False):
        for convolution, norm in zip(self.convolutions, self.norms, strict=False):
            x = gelu(norm(convolution(x), training=training))
        return self.last_norm(self.convolutions[-1](x))

    def compute_output_shape(self, input_shape):
        for convolution in self.convolutions:
            input_shape = convolution.compute_output_shape(input_shape)
        return input_shape

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable(package="keras_lrseg")
class OverlappedPatchEmbedding(keras.layers.Layer):
    """Convolution with a stride, then layer normalization.

    Args:
        channels: output channels.
        kernel_size: odd side of the kernel, larger than the stride.
        strides: stride of both axes.
        epsilon: of the layer normalization.
        kernel_initializer: None for PyTorch's default.

    Input: (B, H, W, C). Output: (B, ceil(H/strides), ceil(W/strides), channels).
    """

    def __init__(
        self,
        channels,
        kernel_size=3,
        strides=2,
        epsilon=1e-6,
        kernel_initializer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.channels = channels
        self.kernel_size = kernel_size
        self.strides = strides
        self.epsilon = epsilon
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        settings = {"name": "convolution", "dtype": self.dtype_policy}
        if self.kernel_initializer is not None:
            settings["kernel_initializer"] = self.kernel_initializer
        self.convolution = SymmetricConv2D(channels, kernel_size, strides, **settings)
        self.norm = keras.layers.LayerNormalization(
            epsilon=epsilon, name="norm", dtype=self.dtype_policy
        )

    def build(self, input_shape):
        self.convolution.build(input_shape)
        self.norm.build(self.compute_output_shape(input_shape))

    def call(self, x):
        return self.norm(self.convolution(x))

    def compute_output_shape(self, input_shape):
        return self.convolution.compute_output_shape(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "epsilon": self.epsilon,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
