"""Dual attention (DA; Fu et al., DANet, CVPR 2019)."""

import keras
from keras import ops

from keras_lrseg.decoders.context_decoder import ContextAttention, ContextDecoder
from keras_lrseg.layers.softmax import softmax


@keras.saving.register_keras_serializable(package="keras_lrseg")
class DualAttentionDecoder(ContextDecoder):
    """Attend from each pixel to all pixels, and from each channel to all channels.

    Two branches of a quarter of the channels, each a 3×3 convolution, an attention and
    a 3×3 convolution back to all channels. Their sum is the result.

    Arguments, input, output and errors are those of `ContextDecoder`. The attention
    over pixels holds (H·W)² scores: at stride 8 of 512×512 that is 64 MiB an image.

    Reference: Dual Attention Network for Scene Segmentation, section 3, equations
    (1)-(4).
    """

    def build_context(self, shape):
        inner = (*shape[:-1], self.channels // 4)
        dtype = {"dtype": self.dtype_policy}
        self.attentions = [
            PixelAttention(name="pixel_attention", **dtype),
            ChannelAttention(name="channel_attention", **dtype),
        ]
        self.reduces, self.expands = (
            [self.convolution(width, 3, name=f"{name}{i}") for i in range(2)]
            for name, width in (("reduce", inner[-1]), ("expand", self.channels))
        )
        for layer in self.reduces:
            layer.build(shape)
        for layer in (*self.attentions, *self.expands):
            layer.build(inner)

    def add_context(self, x, training):
        branches = zip(self.reduces, self.attentions, self.expands, strict=True)
        return sum(
            expand(attend(reduce(x, training=training)), training=training)
            for reduce, attend, expand in branches
        )


@keras.saving.register_keras_serializable(package="keras_lrseg")
class PixelAttention(ContextAttention):
    """Add to each pixel what the pixels alike hold, however far away.

    With A (N, C) the N pixels, B, C and D linear maps of them, of which B and C have an
    eighth of the channels: E = α · softmax(B · Cᵀ) · D + A. α starts at 0.

    Input and output: (B, H, W, C).

    Reference: DANet, section 3.2, equations (1) and (2).
    """

    def call(self, x):
        query, key, value = (
            _pixels(layer(x)) for layer in (self.query, self.key, self.value)
        )
        scores = ops.matmul(query, ops.swapaxes(key, 1, 2))  # (B, N, N)
        context = ops.matmul(softmax(scores), value)  # (B, N, C)
        return x + self.scale * ops.reshape(context, ops.shape(x))

    def attention_flops(self, input_shape):
        """Multiply-accumulates of the two products."""
        batch, height, width, _ = input_shape
        return batch * (height * width) ** 2 * self.products


@keras.saving.register_keras_serializable(package="keras_lrseg")
class ChannelAttention(keras.layers.Layer):
    """Add to each channel the channels that it resembles least.

    With A (N, C) the pixels: E = β · A · softmax(max(Aᵀ·A) - Aᵀ·A)ᵀ + A, the maximum
    that of a row. The paper's equation (3) has softmax(Aᵀ·A); the authors' code, and
    ours, this form. β starts at 0.

    Input and output: (B, H, W, C).

    Reference: DANet, section 3.3, equations (3) and (4).
    """

    def build(self, input_shape):
        self.scale = self.add_weight(name="scale", shape=(), initializer="zeros")

    def call(self, x):
        pixels = _pixels(x)  # (B, N, C)
        wide = ops.cast(pixels, "float32")  # sums over all pixels overflow float16
        scores = ops.matmul(ops.swapaxes(wide, 1, 2), wide)  # (B, C, C)
        # What is added to a row changes no softmax.
        weights = ops.cast(softmax(-scores), x.dtype)
        context = ops.matmul(pixels, ops.swapaxes(weights, 1, 2))  # (B, N, C)
        return x + self.scale * ops.reshape(context, ops.shape(x))

    def attention_flops(self, input_shape):
        """Multiply-accumulates of the two products."""
        batch, height, width, channels = input_shape
        return 2 * batch * height * width * channels**2


def _pixels(x):
    """(B, H, W, C) to (B, H·W, C)."""
    _, height, width, channels = ops.shape(x)
    return ops.reshape(x, (-1, height * width, channels))
