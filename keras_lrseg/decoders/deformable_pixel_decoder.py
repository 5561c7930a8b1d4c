"""Mask2Former's pixel decoder (CVPR 2022, section 3.2.2)."""

import keras
from keras import ops

from keras_lrseg.decoders.levels import check_levels
from keras_lrseg.layers import (
    ConvolutionNorm,
    MultiScaleDeformableAttention,
    PointwiseConvolution,
    resize_bilinear,
)
from keras_lrseg.layers.position_embedding import relative_positions, sine_embedding

ATTENDED = ("P5", "P4", "P3")  # in the order of their tokens


@keras.saving.register_keras_serializable(package="keras_lrseg")
class DeformablePixelDecoder(keras.layers.Layer):
    """Let P5, P4 and P3 attend to one another; add P2 at its size.

    A 1×1 convolution with group norm for each level makes tokens of its pixels, which
    go through `depth` layers of deformable attention, with sine and level embeddings.
    P3's result, enlarged, and P2, by a 1×1 convolution, are added up; a 3×3 and a 1×1
    convolution make the mask features of the sum.

    Args:
        channels: of all outputs, a multiple of 32 and of `num_heads`.
        depth: number of attention layers.
        num_heads, num_points: of `MultiScaleDeformableAttention`.
        hidden_channels: of the feed-forwards.

    Input: dict with "P2", "P3", "P4", "P5".
    Output: `[mask_features, p5, p4, p3]`, each (B, H, W, channels), the first of P2's
    size, the others of their level's.

    Raises:
        ValueError: if a level is missing or `channels` is no multiple of 32.

    Reference: Mask2Former, section 3.2.2; Deformable DETR, section 4.2.
    """

    levels = ("P2", "P3", "P4", "P5")

    def __init__(
        self,
        channels=256,
        depth=6,
        num_heads=8,
        num_points=4,
        hidden_channels=1024,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if channels <= 0 or channels % 32:
            raise ValueError(
                "DeformablePixelDecoder expects channels in multiples of 32, for its "
                f"group norms. Received: channels={channels}"
            )
        self.channels = channels
        self.depth = depth
        self.num_heads = num_heads
        self.num_points = num_points
        self.hidden_channels = hidden_channels
        self.projections = [
            self._convolution(f"projection{i}", use_bias=True)
            for i in range(len(ATTENDED))
        ]
        self.blocks = [
            DeformableEncoderLayer(
                num_heads,
                num_points,
                hidden_channels,
                name=f"block{i}",
                dtype=self.dtype_policy,
            )
            for i in range(depth)
        ]
        self.lateral = self._convolution("lateral")
        self.fusion = self._convolution("fusion", kernel_size=3, activation="relu")
        self.mask_features = PointwiseConvolution(
            channels, name="mask_features", dtype=self.dtype_policy
        )

    def _convolution(self, name, **settings):
        return ConvolutionNorm(
            self.channels,
            norm="group",
            kernel_initializer="glorot_uniform",
            name=name,
            dtype=self.dtype_policy,
            **settings,
        )

    def build(self, input_shape):
        check_levels(input_shape, self.levels, "DeformablePixelDecoder")
        self.level_embeddings = self.add_weight(
            name="level_embeddings",
            shape=(len(ATTENDED), self.channels),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
        )
        for projection, level in zip(self.projections, ATTENDED, strict=True):
            projection.build(input_shape[level])
        self.lateral.build(input_shape["P2"])
        mask_features, *maps = self.compute_output_shape(input_shape)
        tokens = (None, None, self.channels)
        for block in self.blocks:
            block.build([tokens, tokens, (None, None, 2), *maps])
        self.fusion.build(mask_features)
        self.mask_features.build(mask_features)

    def call(self, pyramid):
        maps = [
            projection(pyramid[level])
            for projection, level in zip(self.projections, ATTENDED, strict=True)
        ]
        sizes = [ops.shape(x)[1:3] for x in maps]
        tokens = flatten(maps)
        positions = flatten([relative_positions(size) for size in sizes])
        levels = ops.convert_to_tensor(self.level_embeddings)
        embeddings = flatten(
            [
                ops.cast(sine_embedding(size, self.channels), tokens.dtype) + levels[i]
                for i, size in enumerate(sizes)
            ]
        )
        for block in self.blocks:
            maps = unflatten(tokens, sizes)
            tokens = block([tokens, embeddings, positions, *maps])
        maps = unflatten(tokens, sizes)
        lateral = self.lateral(pyramid["P2"])
        x = lateral + resize_bilinear(maps[-1], ops.shape(lateral)[1:3])
        return [self.mask_features(self.fusion(x)), *maps]

    def compute_output_shape(self, input_shape):
        check_levels(input_shape, self.levels, "DeformablePixelDecoder")
        levels = ("P2", *ATTENDED)
        return [(*input_shape[level][:3], self.channels) for level in levels]

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "depth": self.depth,
            "num_heads": self.num_heads,
            "num_points": self.num_points,
            "hidden_channels": self.hidden_channels,
        }


@keras.saving.register_keras_serializable(package="keras_lrseg")
class DeformableEncoderLayer(keras.layers.Layer):
    """Deformable attention and a feed-forward, a layer norm behind each residual.

    Args:
        num_heads, num_points: of `MultiScaleDeformableAttention`.
        hidden_channels: of the feed-forward, whose activation is ReLU.

    Inputs: `[tokens, embeddings, positions, *maps]`: (B, N, C); what is added to the
    tokens as queries, (1, N, C); the positions and maps of the attention.
    Output: (B, N, C).

    Reference: Deformable DETR, section 4.2.
    """

    def __init__(self, num_heads, num_points, hidden_channels, **kwargs):
        # Half precision is too coarse for the positions: they come as they are.
        super().__init__(autocast=False, **kwargs)
        self.num_heads = num_heads
        self.num_points = num_points
        self.hidden_channels = hidden_channels

    def build(self, input_shape):
        tokens, _, *read = input_shape
        dtype = {"dtype": self.dtype_policy}
        settings = {"kernel_initializer": "glorot_uniform", **dtype}
        self.attention = MultiScaleDeformableAttention(
            self.num_heads, self.num_points, name="attention", **dtype
        )
        self.expand = PointwiseConvolution(
            self.hidden_channels, activation="relu", name="expand", **settings
        )
        self.contract = PointwiseConvolution(tokens[-1], name="contract", **settings)
        self.norm1, self.norm2 = (
            keras.layers.LayerNormalization(epsilon=1e-5, name=name, **dtype)
            for name in ("norm1", "norm2")
        )
        self.attention.build([tokens, *read])
        for layer in (self.norm1, self.expand, self.norm2):
            layer.build(tokens)
        self.contract.build((*tokens[:-1], self.hidden_channels))

    def call(self, inputs):
        tokens, embeddings, *read = inputs
        x = self.norm1(tokens + self.attention([tokens + embeddings, *read]))
        return self.norm2(x + self.contract(self.expand(x)))

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "num_points": self.num_points,
            "hidden_channels": self.hidden_channels,
        }


def flatten(maps):
    """The pixels of maps (B, H, W, C) one after another, (B, N, C)."""
    tokens = []
    for x in maps:
        _, height, width, channels = ops.shape(x)
        tokens.append(ops.reshape(x, (-1, height * width, channels)))
    return ops.concatenate(tokens, axis=1)


def unflatten(tokens, sizes):
    """The maps (B, H, W, C) of (height, width) `sizes` that tokens (B, N, C) make."""
    maps, first = [], 0
    for height, width in sizes:
        x = tokens[:, first : first + height * width]
        maps.append(ops.reshape(x, (-1, height, width, tokens.shape[-1])))
        first = first + height * width
    return maps
