"""SegFormer's all-MLP decoder (NeurIPS 2021, section 3.2) as MMSegmentation has it."""

import keras
from keras import ops

from keras_lrseg.decoders.levels import check_levels
from keras_lrseg.layers import ConvolutionNorm, PointwiseConvolution, resize_bilinear
from keras_lrseg.layers.convolution import kaiming_normal
from keras_lrseg.layers.normalization import batch_norm


@keras.saving.register_keras_serializable(package="keras_lrseg")
class SegFormerDecoder(keras.layers.Layer):
    """Fuse P2 to P5 at stride 4 with 1×1 convolutions alone.

    Each level goes through a 1×1 convolution, batch norm and ReLU and is enlarged to
    P2's size; a 1×1 convolution of all four together, batch norm and ReLU fuse them.

    The fusing convolution is split over the levels, `W·[x2, …, x5] = ΣWi·xi`, and each
    part acts before its level is enlarged. Both are linear and commute, so the result
    is the same for a third of the multiplications, without a map of 4·channels.

    Args:
        channels: output channels.
        pool: 2×2 max pooling of the result, as the authors of OffSeg have it in front
            of `OffsetLearning`; an odd last row or column is left out.

    Input: dict with "P2", "P3", "P4", "P5".
    Output: features (B, H, W, channels) of P2's size; with `pool` (H // 2, W // 2).

    Raises:
        ValueError: if a level is missing.
    """

    levels = ("P2", "P3", "P4", "P5")

    def __init__(self, channels, pool=False, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.pool = pool
        dtype = {"dtype": self.dtype_policy}
        self.convolutions = [
            ConvolutionNorm(
                channels,
                activation="relu",
                kernel_initializer=kaiming_normal(),
                name=f"convolution{i}",
                **dtype,
            )
            for i in range(4)
        ]
        self.fusions = [
            PointwiseConvolution(
                channels,
                use_bias=False,
                kernel_initializer=kaiming_normal(),
                name=f"fusion{i}",
                **dtype,
            )
            for i in range(4)
        ]
        self.norm = batch_norm(name="norm", **dtype)

    def build(self, input_shape):
        check_levels(input_shape, self.levels, "SegFormerDecoder")
        for i, level in enumerate(self.levels):
            self.convolutions[i].build(input_shape[level])
            self.fusions[i].build((*input_shape[level][:3], self.channels))
        self.norm.build((*input_shape["P2"][:3], self.channels))

    def call(self, pyramid, training=False):
        size = ops.shape(pyramid["P2"])[1:3]
        parts = []
        for i, level in enumerate(self.levels):
            x = self.convolutions[i](pyramid[level], training=training)
            parts.append(resize_bilinear(self.fusions[i](x), size))
        p2, p3, p4, p5 = parts
        x = ops.relu(self.norm(p2 + p3 + p4 + p5, training=training))
        if self.pool:
            x = ops.max_pool(x, 2, 2, "valid", "channels_last")
        return x

    def compute_output_shape(self, input_shape):
        check_levels(input_shape, self.levels, "SegFormerDecoder")
        batch, *size, _ = input_shape["P2"]
        if self.pool:
            size = (None if n is None else n // 2 for n in size)
        return (batch, *size, self.channels)

    def attention_flops(self, input_shape):
        """No products but those of the inner layers."""
        return 0

    def published_flops(self, input_shape):
        """What the fusing convolution takes more of at P2's size."""
        shapes = [input_shape[level] for level in self.levels]
        positions = [batch * height * width for batch, height, width, _ in shapes]
        return self.channels**2 * (4 * positions[0] - sum(positions))

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "pool": self.pool,
        }
