"""OffSeg's pixel decoder (ICCV 2025)."""

import keras
from keras import ops

from keras_lrseg.decoders.levels import check_levels
from keras_lrseg.layers import ConvolutionNorm, FreqFusion, resize_bilinear
from keras_lrseg.layers.convolution import kaiming_normal

GROUPS = 4  # Channels of two fused maps alternate in so many groups.


@keras.saving.register_keras_serializable(package="keras_lrseg")
class FreqFusionDecoder(keras.layers.Layer):
    """Fuse P5, P4, P3 and P2 from the top down, by FreqFusion.

    A 1×1 convolution with group normalization and ReLU for each level, three fusions,
    each followed by concatenation, and such a convolution of everything.

    Args:
        widths: channels of P2 to P5 after their convolutions, multiples of 32 (OffSeg-T
            32, 32, 64, 128; B and L 32, 64, 128, 256).
        channels: output channels, a multiple of 32 (Table 7: 64 to 2048).
        freq_fusion: False for the plain convolutional decoder of Table 6, where the
            lower resolution is enlarged bilinearly instead.

    Input: dict with "P2" … "P5", each level of half the size of the one before, rounded
    up.
    Output: features (B, H, W, channels) of P2's size.

    Raises:
        ValueError: if a level is missing, or widths or sizes do not fit.

    Reference: OffSeg, Tables 6 and 7.
    """

    levels = ("P2", "P3", "P4", "P5")

    def __init__(
        self, widths=(32, 32, 64, 128), channels=256, freq_fusion=True, **kwargs
    ):
        super().__init__(**kwargs)
        if len(widths) != 4 or any(n <= 0 or n % 32 for n in (*widths, channels)):
            raise ValueError(
                "FreqFusionDecoder expects four widths and channels that are multiples "
                f"of 32. Received: widths={widths}, channels={channels}"
            )
        self.widths = tuple(widths)
        self.channels = channels
        self.freq_fusion = freq_fusion
        dtype = {"dtype": self.dtype_policy}

        def block(width, name):
            return ConvolutionNorm(
                width,
                norm="group",
                activation="relu",
                kernel_initializer=kaiming_normal(),
                name=name,
                **dtype,
            )

        self.squeezes = [block(n, f"squeeze{i}") for i, n in enumerate(widths)]
        self.fusions = []
        if freq_fusion:
            self.fusions = [FreqFusion(name=f"fusion{i}", **dtype) for i in range(3)]
        self.align = block(channels, "align")

    def build(self, input_shape):
        check_levels(input_shape, self.levels, "FreqFusionDecoder")
        shapes = [input_shape[level] for level in self.levels]
        for squeeze, shape in zip(self.squeezes, shapes, strict=True):
            squeeze.build(shape)
        *lower, low = [
            (*shape[:-1], width)
            for shape, width in zip(shapes, self.widths, strict=True)
        ]
        for i, high in enumerate(reversed(lower)):
            if self.freq_fusion:
                self.fusions[i].build([high, low])
            low = (*high[:-1], high[-1] + low[-1])
        self.align.build(low)

    def call(self, pyramid):
        features = [
            squeeze(pyramid[level])
            for squeeze, level in zip(self.squeezes, self.levels, strict=True)
        ]
        low = features.pop()
        for i, high in enumerate(reversed(features)):
            if self.freq_fusion:
                high, low = self.fusions[i]([high, low])
            else:
                low = resize_bilinear(low, ops.shape(high)[1:3])
            low = alternate_groups([high, low])
        return self.align(low)

    def compute_output_shape(self, input_shape):
        check_levels(input_shape, self.levels, "FreqFusionDecoder")
        return (*input_shape["P2"][:3], self.channels)

    def get_config(self):
        return {
            **super().get_config(),
            "widths": self.widths,
            "channels": self.channels,
            "freq_fusion": self.freq_fusion,
        }


def alternate_groups(features):
    """Concatenate maps (B, H, W, any) so that every fourth of the result has all."""
    _, height, width, _ = ops.shape(features[0])
    channels = sum(x.shape[-1] for x in features)
    x = [ops.reshape(x, (-1, GROUPS, x.shape[-1] // GROUPS)) for x in features]
    x = ops.concatenate(x, axis=-1)  # (B·H·W, 4, channels/4)
    return ops.reshape(x, (-1, height, width, channels))
