"""SegNeXt's light hamburger head."""

import keras
from keras import ops

from keras_lrseg.decoders.levels import check_levels
from keras_lrseg.layers import (
    ConvolutionNorm,
    GroupNormalization,
    Hamburger,
    PointwiseConvolution,
    resize_bilinear,
)
from keras_lrseg.layers.convolution import kaiming_normal


@keras.saving.register_keras_serializable(package="keras_lrseg")
class HamburgerDecoder(keras.layers.Layer):
    """Fuse P3, P4 and P5 at stride 8 and add global context by factorisation.

    P4 and P5 are enlarged to P3's size; [P3, P4, P5] is squeezed by a 1×1 convolution,
    goes through a `Hamburger` and another 1×1 convolution; group norm and ReLU after
    both.

    The squeezing convolution is split over the levels, `W·[x3, x4, x5] = ΣWi·xi`, and
    each part acts before its level is enlarged. Both are linear and commute, so the
    result is the same for a quarter of the multiplications.

    Args:
        channels: output channels, a multiple of 32.
        rank, seed: of `NonNegativeFactorization`.

    Input: dict with "P3", "P4", "P5" (further levels are not used).
    Output: features (B, H, W, channels) of P3's size.

    Raises:
        ValueError: if a level is missing or `channels` is no multiple of 32.

    Reference: SegNeXt, section 3.2 and Figure 3(c).
    """

    levels = ("P3", "P4", "P5")

    def __init__(self, channels, rank=16, seed=0, **kwargs):
        super().__init__(**kwargs)
        if channels < 1 or channels % 32:
            raise ValueError(
                "HamburgerDecoder expects channels in multiples of 32, for its group "
                f"norms. Received: channels={channels}"
            )
        self.channels = channels
        self.rank = rank
        self.seed = seed
        dtype = {"dtype": self.dtype_policy}
        self.squeezes = [
            PointwiseConvolution(
                channels,
                use_bias=False,
                kernel_initializer=kaiming_normal(),
                name=f"squeeze{i}",
                **dtype,
            )
            for i in range(3)
        ]
        self.norm = GroupNormalization(name="norm", **dtype)
        self.hamburger = Hamburger(rank, seed, name="hamburger", **dtype)
        self.align = ConvolutionNorm(
            channels,
            norm="group",
            activation="relu",
            kernel_initializer=kaiming_normal(),
            name="align",
            **dtype,
        )

    def build(self, input_shape):
        check_levels(input_shape, self.levels, "HamburgerDecoder")
        for squeeze, level in zip(self.squeezes, self.levels, strict=True):
            squeeze.build(input_shape[level])
        for layer in (self.norm, self.hamburger, self.align):
            layer.build((*input_shape["P3"][:3], self.channels))

    def call(self, pyramid, training=False):
        size = ops.shape(pyramid["P3"])[1:3]
        p3, p4, p5 = (
            resize_bilinear(squeeze(pyramid[level]), size)
            for squeeze, level in zip(self.squeezes, self.levels, strict=True)
        )
        x = ops.relu(self.norm(p3 + p4 + p5))
        return self.align(self.hamburger(x, training=training))

    def compute_output_shape(self, input_shape):
        check_levels(input_shape, self.levels, "HamburgerDecoder")
        return (*input_shape["P3"][:3], self.channels)

    def attention_flops(self, input_shape):
        """No products but those of the inner layers."""
        return 0

    def published_flops(self, input_shape):
        """What the squeezing convolution takes more of at P3's size."""
        shapes = [input_shape[level] for level in self.levels]
        positions = [batch * height * width for batch, height, width, _ in shapes]
        return sum(
            (positions[0] - n) * shape[-1] * self.channels
            for n, shape in zip(positions, shapes, strict=True)
        )

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "rank": self.rank,
            "seed": self.seed,
        }
