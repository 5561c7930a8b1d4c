"""Pyramid pooling (PPM; Zhao et al., PSPNet, CVPR 2017)."""

import keras
from keras import ops

from keras_lrseg.decoders.context_decoder import ContextDecoder
from keras_lrseg.layers import adaptive_average_pools, resize_bilinear

GRIDS = (1, 2, 3, 6)  # cells along each side


@keras.saving.register_keras_serializable(package="keras_lrseg")
class PyramidPoolingDecoder(ContextDecoder):
    """Add the means of the whole image and of its parts to each pixel.

    The features are averaged over grids of 1×1, 2×2, 3×3 and 6×6 cells, each squeezed
    to a quarter of the channels, enlarged again and put beside the features; a 3×3
    convolution fuses them.

    Arguments, input, output and errors are those of `ContextDecoder`.

    Reference: Pyramid Scene Parsing Network, section 3.2 and Figure 3.
    """

    def build_context(self, shape):
        width = self.channels // len(GRIDS)
        self.parts = [
            self.convolution(width, name=f"part{i}") for i in range(len(GRIDS))
        ]
        self.fusion = self.convolution(self.channels, 3, name="fusion")
        for part in self.parts:
            part.build(shape)
        self.fusion.build((*shape[:-1], self.channels + len(GRIDS) * width))

    def add_context(self, x, training):
        size = ops.shape(x)[1:3]
        means = adaptive_average_pools(x, [(n, n) for n in GRIDS])
        means = [
            resize_bilinear(part(mean, training=training), size)
            for part, mean in zip(self.parts, means, strict=True)
        ]
        return self.fusion(ops.concatenate([x, *means], axis=-1), training=training)
