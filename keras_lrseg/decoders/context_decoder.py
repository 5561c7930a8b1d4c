"""What the decoders that LRDecoder is compared with have in common."""

import keras
from keras import ops

from keras_lrseg.decoders.levels import check_levels
from keras_lrseg.layers import ConvolutionNorm, PointwiseConvolution, resize_bilinear


@keras.saving.register_keras_serializable(package="keras_lrseg")
class ContextDecoder(keras.layers.Layer):
    """Fuse P3, P4 and P5 at stride 8, then add context to each pixel.

    P4 and P5 are enlarged to P3's size; [P3, P4, P5] is squeezed by a 1×1 convolution,
    batch norm and ReLU. What differs, `add_context`, is the subclass's: from features
    (B, H, W, channels) to as many, of layers that its `build_context` makes.

    LRFormer's paper does not say how it fits the decoders of its Table 10 to a pyramid;
    this is our choice, the same for all.

    Args:
        channels: output channels.

    Input: dict with "P3", "P4", "P5" (further levels are not used).
    Output: features (B, H, W, channels) of P3's size.

    Raises:
        ValueError: if a level is missing.
    """

    levels = ("P3", "P4", "P5")

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.squeeze = self.convolution(channels, name="squeeze")

    def convolution(self, filters, kernel_size=1, **settings):
        """Return a convolution with batch norm and ReLU, for the subclass's use."""
        settings = {"activation": "relu", "dtype": self.dtype_policy, **settings}
        return ConvolutionNorm(filters, kernel_size, **settings)

    def build(self, input_shape):
        check_levels(input_shape, self.levels, type(self).__name__)
        *size, _ = input_shape["P3"]
        self.squeeze.build(
            (*size, sum(input_shape[level][-1] for level in self.levels))
        )
        self.build_context((*size, self.channels))

    def call(self, pyramid, training=False):
        return self.add_context(self.fuse(pyramid, training), training)

    def fuse(self, pyramid, training=False):
        """Return the features (B, H, W, channels) in front of the context."""
        size = ops.shape(pyramid["P3"])[1:3]
        features = [resize_bilinear(pyramid[level], size) for level in self.levels]
        return self.squeeze(ops.concatenate(features, axis=-1), training=training)

    def compute_output_shape(self, input_shape):
        check_levels(input_shape, self.levels, type(self).__name__)
        return (*input_shape["P3"][:3], self.channels)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable(package="keras_lrseg")
class ContextAttention(keras.layers.Layer):
    """Add to each pixel a weighted sum of others, scaled by a weight that starts at 0.

    What the attentions of DANet and CCNet have in common: `query` and `key`, linear
    maps to an eighth of the channels, `value`, one to all of them, and `scale`.

    Input and output: (B, H, W, C).
    """

    def build(self, input_shape):
        channels = input_shape[-1]
        eighth = max(channels // 8, 1)
        self.query, self.key, self.value = (
            PointwiseConvolution(width, name=name, dtype=self.dtype_policy)
            for name, width in (("query", eighth), ("key", eighth), ("value", channels))
        )
        for layer in (self.query, self.key, self.value):
            layer.build(input_shape)
        self.scale = self.add_weight(name="scale", shape=(), initializer="zeros")
        self.products = eighth + channels  # for a pair of pixels
