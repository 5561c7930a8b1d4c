"""LRFormer's decoder (TPAMI 2025, section 3.3)."""

import keras
from keras import ops

from keras_lrseg.decoders.levels import check_levels
from keras_lrseg.layers import LRFormerBlock, PointwiseConvolution, resize_bilinear
from keras_lrseg.layers.normalization import batch_norm


@keras.saving.register_keras_serializable(package="keras_lrseg")
class LRDecoder(keras.layers.Layer):
    """Fuse P3, P4 and P5 at stride 8 with two blocks of low-resolution attention.

    P4 and P5 are enlarged to P3's size; [P3, P4, P5] is squeezed by a 1×1 convolution
    and goes through a block; so does the result with P5 once more.

    Args:
        channels: output channels (Table 11: 128 to 1024).
        num_heads: attention heads of the two blocks.
        pool_size: query cells along the shorter side. 32 as in the authors' code, which
            the paper's FLOPs need.
        expansion_ratio: of the feed-forwards.
        layer_scale: initial value of the layer scales.

    Input: dict with "P3", "P4", "P5" (further levels are not used).
    Output: features (B, H, W, channels) of P3's size.

    Raises:
        ValueError: if a level is missing.
    """

    levels = ("P3", "P4", "P5")

    def __init__(
        self,
        channels,
        num_heads=8,
        pool_size=32,
        expansion_ratio=4,
        layer_scale=1e-6,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if channels < 1:
            raise ValueError(
                "LRDecoder expects channels, a positive integer. "
                f"Received: channels={channels}"
            )
        self.channels = channels
        self.num_heads = num_heads
        self.pool_size = pool_size
        self.expansion_ratio = expansion_ratio
        self.layer_scale = layer_scale
        dtype = {"dtype": self.dtype_policy}
        self.squeezes = [
            PointwiseConvolution(channels, use_bias=False, name=f"squeeze{i}", **dtype)
            for i in (1, 2)
        ]
        self.norms = [batch_norm(name=f"norm{i}", **dtype) for i in (1, 2)]
        self.blocks = [
            LRFormerBlock(
                num_heads,
                pool_size,
                expansion_ratio,
                layer_scale,
                norm="batch",
                pyramid_convolutions=[],
                name=f"block{i}",
                **dtype,
            )
            for i in (1, 2)
        ]

    def build(self, input_shape):
        check_levels(input_shape, self.levels, "LRDecoder")
        *size, _ = input_shape["P3"]
        widths = [input_shape[level][-1] for level in self.levels]
        output_shape = (*size, self.channels)
        inputs = (sum(widths), self.channels + widths[-1])
        for width, squeeze in zip(inputs, self.squeezes, strict=True):
            squeeze.build((*size, width))
        for layer in (*self.norms, *self.blocks):
            layer.build(output_shape)

    def call(self, pyramid, training=False):
        size = ops.shape(pyramid["P3"])[1:3]
        p3, p4, p5 = (resize_bilinear(pyramid[level], size) for level in self.levels)
        x = self._fuse(0, [p3, p4, p5], training)
        return self._fuse(1, [x, p5], training)

    def _fuse(self, i, features, training):
        x = self.squeezes[i](ops.concatenate(features, axis=-1))
        x = ops.relu(self.norms[i](x, training=training))
        return self.blocks[i](x, training=training)

    def compute_output_shape(self, input_shape):
        check_levels(input_shape, self.levels, "LRDecoder")
        return (*input_shape["P3"][:3], self.channels)

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "num_heads": self.num_heads,
            "pool_size": self.pool_size,
            "expansion_ratio": self.expansion_ratio,
            "layer_scale": self.layer_scale,
        }
