"""Resampling guided by the similarity of neighbours, the second half of FreqFusion."""

import keras
from keras import ops

from keras_lrseg.layers.convolution import SymmetricConv2D
from keras_lrseg.layers.normalization import GroupNormalization

GROUPS = 4  # of channels that move together
DILATION = 2  # of the window of neighbours


@keras.saving.register_keras_serializable(package="keras_lrseg")
class SimilarityGuidedResampler(keras.layers.Layer):
    """Move each pixel to where its neighbours are alike: FreqFusion's offset generator.

    Cosine similarities to eight neighbours, of both resolutions, become offsets by a
    convolution, and a second convolution of the features scales them, between 0 and 1.
    The map is read there bilinearly; four groups of channels move independently.

    Inputs: `[high, low, x]`, guides (B, H, W, C) and (B, h, w, C) and the map to read
    (B, H, W, any multiple of 4), where h = ceil(H/2) and w = ceil(W/2).
    Output: (B, H, W, channels of x).

    The authors mean all weights to be small at the start (normal, 0.001) but overwrite
    that with Xavier's when the network is made. The published results come from Xavier,
    so Xavier is what this layer takes.

    Raises:
        ValueError: if C is below 8, or no multiple of its C//8 groups, or the map's
            channels are no multiple of 4.

    Reference: Frequency-aware Feature Fusion for Dense Image Prediction (Chen et al.,
    TPAMI 2024), the offset generator.
    """

    def build(self, input_shape):
        high, low, x = input_shape
        channels = high[-1]
        if channels < 8 or channels % (channels // 8):
            raise ValueError(
                "SimilarityGuidedResampler expects guides with a number of channels "
                "from 8 that is a multiple of channels // 8, for example 48. "
                f"Received: {channels}"
            )
        if x[-1] % GROUPS:
            raise ValueError(
                f"SimilarityGuidedResampler reads maps with a multiple of {GROUPS} "
                f"channels. Received: {x[-1]}"
            )
        self.norm_high, self.norm_low = (
            GroupNormalization(channels // 8, name=name, dtype=self.dtype_policy)
            for name in ("norm_high", "norm_low")
        )
        # x and y for each group; at the low resolution for each of 2×2 output pixels.
        # Half precision is too coarse for positions in a map.
        self.offset_high, self.scale_high, self.offset_low, self.scale_low = (
            SymmetricConv2D(
                filters,
                3,
                kernel_initializer="glorot_uniform",
                name=name,
                dtype="float32",
            )
            for name, filters in (
                ("offset_high", 2 * GROUPS),
                ("scale_high", 2 * GROUPS),
                ("offset_low", 4 * 2 * GROUPS),
                ("scale_low", 4 * 2 * GROUPS),
            )
        )
        self.norm_high.build(high)
        self.norm_low.build(low)
        self.scale_high.build(high)
        self.scale_low.build(low)
        self.offset_high.build((*high[:-1], 8))
        self.offset_low.build((*low[:-1], 8))

    def call(self, inputs):
        high, low, x = inputs
        size = ops.shape(high)[1:3]
        high, low = self.norm_high(high), self.norm_low(low)
        offset = self.offset_high(cosine_similarities(high, DILATION)) + interleave(
            self.offset_low(cosine_similarities(low, DILATION)), size
        )
        scale = self.scale_high(high) + interleave(self.scale_low(low), size)
        return read_bilinearly(x, 2.0 * offset * ops.sigmoid(scale))

    def compute_output_shape(self, input_shape):
        return input_shape[2]


def cosine_similarities(x, dilation):
    """Cosine similarity of each pixel to its eight neighbours at distance `dilation`.

    Args:
        x: (B, H, W, C).

    Returns:
        Float32 (B, H, W, 8), row-major without the centre; zero for neighbours outside.
    """
    _, height, width, _ = ops.shape(x)
    x = ops.cast(x, "float32")
    x = x * ops.rsqrt(ops.maximum(_dot(x, x), 1e-16))

    def shifted(padded, row, column):
        """What lies `row` rows below and `column` columns to the right."""
        top, left = (row + 1) * dilation, (column + 1) * dilation
        return padded[:, top : top + height, left : left + width]

    # Half of the neighbours are enough: the similarity is mutual.
    forward = [(0, 1), (1, -1), (1, 0), (1, 1)]
    margin = ((0, 0), (dilation, dilation), (dilation, dilation), (0, 0))
    padded = ops.pad(x, margin)
    planes = [_dot(x, shifted(padded, row, column)) for row, column in forward]
    mirrored = [
        shifted(ops.pad(plane, margin), -row, -column)
        for plane, (row, column) in zip(planes, forward, strict=True)
    ]
    # LiteRT's delegate concatenates five tensors at most.
    halves = [ops.concatenate(half, axis=-1) for half in (mirrored[::-1], planes)]
    return ops.concatenate(halves, axis=-1)


def _dot(x, y):
    """Dot product of each pixel's channels, (B, H, W, 1)."""
    if keras.config.backend() == "jax":
        import jax

        # On a CPU, XLA sums the last axis value by value: 8 times slower than this.
        product = jax.lax.optimization_barrier(x * y)
        return ops.matmul(product, ops.ones((x.shape[-1], 1), x.dtype))
    return ops.sum(x * y, axis=-1, keepdims=True)


def interleave(x, size):
    """Pixel shuffle by 2: (B, h, w, 4·C) to (B, H, W, C), the last row or column cut.

    Channels are in the order of the output pixel (row, column), then C.
    """
    (_, rows, columns, channels), (height, width) = ops.shape(x), size
    x = ops.reshape(x, (-1, columns, 2, channels // 2))
    x = ops.transpose(x, (0, 2, 1, 3))  # (B·h, 2, w, 2·C)
    x = ops.reshape(x, (-1, 2 * rows, 2 * columns, channels // 4))
    return x[:, :height, :width]


def read_bilinearly(x, offset):
    """Read a map at displaced positions; outside of it, at the nearest border pixel.

    Args:
        x: (B, H, W, C).
        offset: float32 (B, H, W, 8) in pixels, to the right for each of four groups of
            channels, then down.

    Returns:
        (B, H, W, C).
    """
    batch, height, width, channels = ops.shape(x)
    column, column_step, right = _cells(offset[..., :GROUPS], width, axis=2)
    row, row_step, down = _cells(offset[..., GROUPS:], height, axis=1)
    image = ops.reshape(ops.arange(batch, dtype="int32"), (-1, 1, 1, 1))
    group = ops.arange(GROUPS, dtype="int32")
    first = ((image * height + row) * width + column) * GROUPS + group  # (B, H, W, 4)
    column_step, row_step = column_step * GROUPS, row_step * width * GROUPS
    corners = [
        (first, (1.0 - down) * (1.0 - right)),
        (first + column_step, (1.0 - down) * right),
        (first + row_step, down * (1.0 - right)),
        (first + (row_step + column_step), down * right),
    ]
    # A row of channels for each image, pixel and group.
    rows = ops.reshape(x, (-1, channels // GROUPS))
    x = _weighted_rows(rows, [(i, ops.cast(w, x.dtype)) for i, w in corners])
    return ops.reshape(x, (-1, height, width, channels))


def _cells(offset, size, axis):
    """First pixel of the pair that is read, the step to the second, its weight."""
    step = min(size - 1, 1) if isinstance(size, int) else ops.minimum(size - 1, 1)
    shape = [1, 1, 1, 1]
    shape[axis] = -1
    position = ops.reshape(ops.arange(size, dtype="int32"), shape)
    position = ops.cast(position, "float32") + offset
    position = ops.clip(position, 0.0, ops.cast(size - 1, "float32"))
    # Clipped once more, since a position may be no number; from 1, since TFLite's
    # converter takes 0..6 for a ReLU6, which no integers have.
    first = ops.clip(ops.cast(position, "int32") + 1, 1, size - step) - 1
    return first, step, position - ops.cast(first, "float32")


def _weighted_rows(rows, corners):
    """Sum of `weight · rows[index]`; `keras.ops.take` would check each index."""
    if keras.config.backend() == "torch":
        from keras_lrseg.layers.torch_rows import weighted_rows

        corners = (ops.stack(x, -1) for x in zip(*corners, strict=True))
        return weighted_rows(rows, *(x.reshape(-1, 4) for x in corners))
    return sum(
        _gather(rows, ops.reshape(index, (-1,))) * ops.reshape(weight, (-1, 1))
        for index, weight in corners
    )


def _gather(rows, index):
    if keras.config.backend() == "jax":
        return rows.at[index].get(mode="promise_in_bounds")
    import tensorflow as tf

    return tf.gather(rows, index)
