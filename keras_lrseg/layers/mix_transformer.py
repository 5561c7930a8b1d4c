"""Layers of the Mix Transformer, SegFormer's backbone (NeurIPS 2021, section 3.1).

Linear maps start from a truncated normal distribution of deviation 0.02, convolutions
from MMSegmentation's `kaiming_normal`.
"""

import keras
from keras import ops

from keras_lrseg.layers.activation import gelu
from keras_lrseg.layers.convolution import (
    DepthwiseConvolution,
    PatchConv2D,
    PointwiseConvolution,
    kaiming_normal,
)
from keras_lrseg.layers.embedding import OverlappedPatchEmbedding
from keras_lrseg.layers.heads import (
    check_heads,
    dot_product_attention,
    merge_heads,
    split_heads,
)
from keras_lrseg.layers.linear import linear
from keras_lrseg.layers.regularization import DropPath


@keras.saving.register_keras_serializable(package="keras_lrseg")
class EfficientSelfAttention(keras.layers.Layer):
    """Self-attention of all positions to keys and values of a smaller map.

    Keys and values come from the input after a `PatchConv2D` of `reduction` and layer
    normalization, so N positions attend to N / reduction² cells.

    Args:
        num_heads: attention heads; divides the number of channels.
        reduction: R, the side of the patches (8, 4, 2, 1 in the four stages); 1: none.
        epsilon: of the layer normalization.

    Input and output: (B, H, W, C). Sizes that R does not divide lose the rest of their
    rows and columns as keys, as in the authors' code.

    Raises:
        ValueError: if `num_heads` does not divide C.

    Reference: Xie et al., "SegFormer", section 3.1, equations (1) and (2).
    """

    def __init__(self, num_heads, reduction=1, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.reduction = reduction
        self.epsilon = epsilon

    def build(self, input_shape):
        channels = input_shape[-1]
        check_heads(channels, self.num_heads)
        dtype = {"dtype": self.dtype_policy}
        self.query = linear(channels, name="query", **dtype)
        self.key_value = linear(2 * channels, name="key_value", **dtype)
        self.projection = linear(channels, name="projection", **dtype)
        for layer in (self.query, self.key_value, self.projection):
            layer.build(input_shape)
        if self.reduction > 1:
            self.reduce = PatchConv2D(
                channels, self.reduction, name="reduce", dtype=self.dtype_policy
            )
            self.norm = keras.layers.LayerNormalization(
                epsilon=self.epsilon, name="norm", dtype=self.dtype_policy
            )
            self.reduce.build(input_shape)
            self.norm.build(self.reduce.compute_output_shape(input_shape))

    def call(self, x):
        _, height, width, _ = ops.shape(x)
        cells = self.norm(self.reduce(x)) if self.reduction > 1 else x
        keys, values = ops.split(self.key_value(cells), 2, axis=-1)
        heads = (split_heads(x, self.num_heads) for x in (self.query(x), keys, values))
        x = merge_heads(dot_product_attention(*heads), height, width)
        return self.projection(x)

    def compute_output_shape(self, input_shape):
        return input_shape

    def attention_flops(self, input_shape):
        """Multiply-accumulates of the two attention products."""
        batch, height, width, channels = input_shape
        rows, columns = (max(n // self.reduction, 1) for n in (height, width))
        return 2 * batch * height * width * rows * columns * channels

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "reduction": self.reduction,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable(package="keras_lrseg")
class MixFeedForward(keras.layers.Layer):
    """1×1 convolution, depthwise 3×3, GELU, 1×1 convolution.

    The depthwise convolution's zero padding takes the place of a position encoding.

    Args:
        expansion_ratio: width inside divided by the channels of the input.

    Input and output: (B, H, W, C).

    Reference: SegFormer, section 3.1, equation (3), less its residual.
    """

    def __init__(self, expansion_ratio=4, **kwargs):
        super().__init__(**kwargs)
        self.expansion_ratio = expansion_ratio

    def build(self, input_shape):
        channels = input_shape[-1]
        hidden_shape = (*input_shape[:-1], int(channels * self.expansion_ratio))
        self.expand = self._pointwise(hidden_shape[-1], "expand")
        self.convolution = DepthwiseConvolution(
            kernel_initializer=kaiming_normal(),
            name="convolution",
            dtype=self.dtype_policy,
        )
        self.contract = self._pointwise(channels, "contract")
        self.expand.build(input_shape)
        self.convolution.build(hidden_shape)
        self.contract.build(hidden_shape)

    def _pointwise(self, units, name):
        return PointwiseConvolution(
            units,
            kernel_initializer=kaiming_normal(),
            name=name,
            dtype=self.dtype_policy,
        )

    def call(self, x):
        return self.finish(self.expand(x))

    def finish(self, expanded):
        """What follows the first 1×1 convolution."""
        return self.contract(gelu(self.convolution(expanded)))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "expansion_ratio": self.expansion_ratio}


@keras.saving.register_keras_serializable(package="keras_lrseg")
class MixTransformerBlock(keras.layers.Layer):
    """Efficient self-attention and a mix feed-forward, each in a residual branch.

        x = x + drop_path(attention(norm(x)))
        x = x + drop_path(FFN(norm(x)))

    Args:
        num_heads, reduction: of `EfficientSelfAttention`.
        expansion_ratio: of `MixFeedForward`.
        drop_path_rate: probability of dropping a branch in training.
        epsilon: of all layer normalizations.

    Input and output: (B, H, W, C).
    """

    def __init__(
        self,
        num_heads,
        reduction=1,
        expansion_ratio=4,
        drop_path_rate=0.0,
        epsilon=1e-6,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "num_heads": num_heads,
            "reduction": reduction,
            "expansion_ratio": expansion_ratio,
            "drop_path_rate": drop_path_rate,
            "epsilon": epsilon,
        }
        dtype = {"dtype": self.dtype_policy}
        self.norms = [
            keras.layers.LayerNormalization(epsilon=epsilon, name=f"norm{i}", **dtype)
            for i in (1, 2)
        ]
        self.attention = EfficientSelfAttention(
            num_heads, reduction, epsilon, name="attention", **dtype
        )
        self.feed_forward = MixFeedForward(
            expansion_ratio, name="feed_forward", **dtype
        )
        self.drop_path = DropPath(drop_path_rate, name="drop_path", **dtype)

    def build(self, input_shape):
        branches = (self.attention, self.feed_forward)
        for layer in (*self.norms, *branches, self.drop_path):
            layer.build(input_shape)

    def call(self, x, training=False):
        for norm, branch in zip(
            self.norms, (self.attention, self.feed_forward), strict=True
        ):
            x = x + self.drop_path(branch(norm(x)), training=training)
        return x

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable(package="keras_lrseg")
class MixTransformerStage(keras.layers.Layer):
    """Overlapped patch embedding, blocks in a row, layer normalization.

    Args:
        channels: output channels.
        depth: number of blocks.
        kernel_size, strides: of the embedding (7 and 4 in the first stage).
        drop_path_rates: one rate for each block; None for zeros.
        Others: of `MixTransformerBlock`, alike for all blocks.

    Input: (B, H, W, C). Output: (B, ceil(H/strides), ceil(W/strides), channels).
    """

    def __init__(
        self,
        channels,
        depth,
        num_heads,
        reduction=1,
        kernel_size=3,
        strides=2,
        expansion_ratio=4,
        drop_path_rates=None,
        epsilon=1e-6,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "channels": channels,
            "depth": depth,
            "num_heads": num_heads,
            "reduction": reduction,
            "kernel_size": kernel_size,
            "strides": strides,
            "expansion_ratio": expansion_ratio,
            "drop_path_rates": drop_path_rates,
            "epsilon": epsilon,
        }
        dtype = {"dtype": self.dtype_policy}
        self.embedding = OverlappedPatchEmbedding(
            channels,
            kernel_size,
            strides,
            epsilon,
            kernel_initializer=kaiming_normal(),
            name="embedding",
            **dtype,
        )
        self.blocks = [
            MixTransformerBlock(
                num_heads,
                reduction,
                expansion_ratio,
                drop_path_rates[i] if drop_path_rates else 0.0,
                epsilon,
                name=f"block{i}",
                **dtype,
            )
            for i in range(depth)
        ]
        self.norm = keras.layers.LayerNormalization(
            epsilon=epsilon, name="norm", **dtype
        )

    def build(self, input_shape):
        self.embedding.build(input_shape)
        output_shape = self.compute_output_shape(input_shape)
        for layer in (*self.blocks, self.norm):
            layer.build(output_shape)

    def call(self, x, training=False):
        x = self.embedding(x)
        for block in self.blocks:
            x = block(x, training=training)
        return self.norm(x)

    def compute_output_shape(self, input_shape):
        return self.embedding.compute_output_shape(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}
