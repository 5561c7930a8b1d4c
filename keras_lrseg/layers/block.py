"""The basic block of LRFormer and a stage of such blocks (TPAMI 2025, section 3.3)."""

import keras

from keras_lrseg.layers.attention import (
    LowResolutionSelfAttention,
    make_pyramid_convolutions,
)
from keras_lrseg.layers.convolution import DepthwiseConvolution
from keras_lrseg.layers.feed_forward import ConvolutionalFeedForward
from keras_lrseg.layers.normalization import batch_norm
from keras_lrseg.layers.regularization import DropPath, LayerScale


@keras.saving.register_keras_serializable(package="keras_lrseg")
class LRFormerBlock(keras.layers.Layer):
    """The basic block, equation (4).

        x = x + DW3×3(x)
        x = x + drop_path(scale · LRSA(norm(x)))
        x = x + drop_path(scale · FFN(norm(x)))

    Args:
        num_heads, pool_size, pyramid_convolutions: of `LowResolutionSelfAttention`.
        expansion_ratio: of `ConvolutionalFeedForward`.
        layer_scale: initial value of both layer scales, or None for none.
        drop_path_rate: probability of dropping a branch in training.
        norm: "layer" (epsilon 1e-6), or "batch" (epsilon 1e-5) as in the decoder.
        pre_norm: batch normalization in front of the block, against overflow in
            float16 (XL; in the authors' code, not in the paper).
        depthwise: the depthwise convolution in front of LRSA (Table 9).
        feed_forward_depthwise: the one in the feed-forward (Table 9).

    Input and output: (B, H, W, C).
    """

    def __init__(
        self,
        num_heads,
        pool_size=16,
        expansion_ratio=4,
        layer_scale=None,
        drop_path_rate=0.0,
        norm="layer",
        pre_norm=False,
        depthwise=True,
        feed_forward_depthwise=True,
        pyramid_convolutions=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if norm not in ("layer", "batch"):
            raise ValueError(
                f'norm expects "layer" or "batch". Received: norm={norm!r}'
            )
        self.num_heads = num_heads
        self.pool_size = pool_size
        self.expansion_ratio = expansion_ratio
        self.layer_scale = layer_scale
        self.drop_path_rate = drop_path_rate
        self.norm = norm
        self.pre_norm = pre_norm
        self.depthwise = depthwise
        self.feed_forward_depthwise = feed_forward_depthwise

        dtype = {"dtype": self.dtype_policy}
        self.attention = LowResolutionSelfAttention(
            num_heads, pool_size, pyramid_convolutions, name="attention", **dtype
        )
        self.feed_forward = ConvolutionalFeedForward(
            expansion_ratio, feed_forward_depthwise, name="feed_forward", **dtype
        )
        self.norms = [self._make_norm(norm, f"norm{i}") for i in (1, 2)]
        self.drop_path = DropPath(drop_path_rate, name="drop_path", **dtype)
        self.scales = []
        if layer_scale is not None:
            self.scales = [
                LayerScale(layer_scale, name=f"scale{i}", **dtype) for i in (1, 2)
            ]
        self.first_norm = self._make_norm("batch", "pre_norm") if pre_norm else None
        self.convolution = None
        if depthwise:
            self.convolution = DepthwiseConvolution(
                residual=True, name="convolution", **dtype
            )

    def _make_norm(self, kind, name):
        if kind == "layer":
            return keras.layers.LayerNormalization(
                epsilon=1e-6, name=name, dtype=self.dtype_policy
            )
        return batch_norm(name=name, dtype=self.dtype_policy)

    def build(self, input_shape):
        optional = [x for x in (self.first_norm, self.convolution) if x is not None]
        branches = (self.attention, self.feed_forward)
        for layer in (*optional, *self.norms, *branches, *self.scales, self.drop_path):
            layer.build(input_shape)

    def call(self, x, training=False):
        if self.first_norm is not None:
            x = self.first_norm(x, training=training)
        if self.convolution is not None:
            x = self.convolution(x)
        for i, branch in enumerate((self.attention, self.feed_forward)):
            y = branch(self._normalize(i, x, training))
            if self.scales:
                y = self.scales[i](y)
            if training:
                y = self.drop_path(y, training=True)
            x = x + y
        return x

    def _normalize(self, i, x, training):
        if self.norm == "batch":
            return self.norms[i](x, training=training)
        return self.norms[i](x)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "pool_size": self.pool_size,
            "expansion_ratio": self.expansion_ratio,
            "layer_scale": self.layer_scale,
            "drop_path_rate": self.drop_path_rate,
            "norm": self.norm,
            "pre_norm": self.pre_norm,
            "depthwise": self.depthwise,
            "feed_forward_depthwise": self.feed_forward_depthwise,
            # Shared convolutions belong to the stage, so only their absence is kept.
            "pyramid_convolutions": None if self.attention.pyramid_convolutions else [],
        }


@keras.saving.register_keras_serializable(package="keras_lrseg")
class LRFormerStage(keras.layers.Layer):
    """Blocks in a row that share the depthwise convolutions of their pyramids.

    Args:
        depth: number of blocks.
        drop_path_rates: one rate for each block; None for zeros.
        pre_norm_blocks: indices of the blocks with a batch normalization in front.
        Others: of `LRFormerBlock`, alike for all blocks.

    Input and output: (B, H, W, C).
    """

    def __init__(
        self,
        depth,
        num_heads,
        pool_size=16,
        expansion_ratio=4,
        layer_scale=None,
        drop_path_rates=None,
        pre_norm_blocks=(),
        depthwise=True,
        feed_forward_depthwise=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "depth": depth,
            "num_heads": num_heads,
            "pool_size": pool_size,
            "expansion_ratio": expansion_ratio,
            "layer_scale": layer_scale,
            "drop_path_rates": drop_path_rates,
            "pre_norm_blocks": list(pre_norm_blocks),
            "depthwise": depthwise,
            "feed_forward_depthwise": feed_forward_depthwise,
        }
        self.pyramid_convolutions = make_pyramid_convolutions(self.dtype_policy)
        self.blocks = [
            LRFormerBlock(
                num_heads=num_heads,
                pool_size=pool_size,
                expansion_ratio=expansion_ratio,
                layer_scale=layer_scale,
                drop_path_rate=drop_path_rates[i] if drop_path_rates else 0.0,
                pre_norm=i in pre_norm_blocks,
                depthwise=depthwise,
                feed_forward_depthwise=feed_forward_depthwise,
                pyramid_convolutions=self.pyramid_convolutions,
                name=f"block{i}",
                dtype=self.dtype_policy,
            )
            for i in range(depth)
        ]

    def build(self, input_shape):
        for layer in (*self.pyramid_convolutions, *self.blocks):
            layer.build(input_shape)

    def call(self, x, training=False):
        for block in self.blocks:
            x = block(x, training=training)
        return x

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), **self.settings}
