"""Criss-cross attention (CC; Huang et al., CCNet, ICCV 2019)."""

import keras
from keras import ops

from keras_lrseg.decoders.context_decoder import ContextAttention, ContextDecoder
from keras_lrseg.layers.softmax import softmax

RECURRENCE = 2  # after the second every pixel has seen every other


@keras.saving.register_keras_serializable(package="keras_lrseg")
class CrissCrossDecoder(ContextDecoder):
    """Attend from each pixel to those of its row and column, twice.

    A 3×3 convolution reduces the channels to a quarter; one `CrissCrossAttention` is
    applied two times; a 3×3 convolution follows, and another fuses the features with
    the result.

    Arguments, input, output and errors are those of `ContextDecoder`.

    Reference: CCNet: Criss-Cross Attention for Semantic Segmentation, section 3.
    """

    def build_context(self, shape):
        inner = (*shape[:-1], self.channels // 4)
        self.reduce = self.convolution(inner[-1], 3, name="reduce")
        self.attention = CrissCrossAttention(name="attention", dtype=self.dtype_policy)
        self.expand = self.convolution(inner[-1], 3, name="expand")
        self.fusion = self.convolution(self.channels, 3, name="fusion")
        self.reduce.build(shape)
        self.attention.build(inner)
        self.expand.build(inner)
        self.fusion.build((*shape[:-1], self.channels + inner[-1]))

    def add_context(self, x, training):
        context = self.reduce(x, training=training)
        for _ in range(RECURRENCE):
            context = self.attention(context)
        context = self.expand(context, training=training)
        return self.fusion(ops.concatenate([x, context], axis=-1), training=training)


@keras.saving.register_keras_serializable(package="keras_lrseg")
class CrissCrossAttention(ContextAttention):
    """Attend from each pixel to the H + W - 1 pixels of its row and its column.

    With Q, K, V linear maps of the pixels, the first two of an eighth of the channels:
    the output is the input plus γ times the sum of V weighted by the softmax of Q · K
    over row and column together. γ starts at 0.

    Input and output: (B, H, W, C).

    Reference: CCNet, section 3.2, equations (1) and (2).
    """

    def call(self, x):
        height, width = ops.shape(x)[1:3]
        across = [layer(x) for layer in (self.query, self.key, self.value)]
        down = [ops.swapaxes(y, 1, 2) for y in across]  # (B, W, H, C)
        along_row = ops.matmul(across[0], ops.swapaxes(across[1], 2, 3))  # (B, H, W, W)
        along_column = ops.matmul(down[0], ops.swapaxes(down[1], 2, 3))  # (B, W, H, H)
        # The pixel itself is in its row already.
        along_column = ops.cast(along_column, "float32") - 1e9 * ops.eye(height)
        scores = [ops.cast(along_row, "float32"), ops.swapaxes(along_column, 1, 2)]
        weights = softmax(ops.concatenate(scores, axis=-1))
        weights = ops.cast(weights, across[2].dtype)  # (B, H, W, W + H)
        from_row = ops.matmul(weights[..., :width], across[2])  # (B, H, W, C)
        weights = ops.swapaxes(weights[..., width:], 1, 2)  # (B, W, H, H)
        from_column = ops.swapaxes(ops.matmul(weights, down[2]), 1, 2)
        return x + self.scale * (from_row + from_column)

    def attention_flops(self, input_shape):
        """Multiply-accumulates of scores and weighted sums."""
        batch, height, width, _ = input_shape
        return batch * height * width * (height + width) * self.products
