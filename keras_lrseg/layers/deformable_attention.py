"""Deformable attention over several maps (Deformable DETR, ICLR 2021, section 4.1)."""

import keras
import numpy as np
from keras import ops

from keras_lrseg.layers.convolution import PointwiseConvolution
from keras_lrseg.layers.heads import check_heads
from keras_lrseg.layers.softmax import softmax


@keras.saving.register_keras_serializable(package="keras_lrseg")
class MultiScaleDeformableAttention(keras.layers.Layer):
    """Attention of each query to a few positions of several maps, which it chooses.

    A query at the relative position p gets, for each head, the weighted mean of the
    values that its linear maps choose on every level,

        Σ over levels l and points k of A_lk · value_l(p + Δp_lk),

    read bilinearly, zero outside of the map. The offsets Δp are in pixels of their
    level; the weights A are a softmax over levels and points.

    Args:
        num_heads: attention heads; divides the number of channels.
        num_points: positions that a head reads on each level.

    Inputs: `[queries, positions, *maps]`: tokens (B, N, C); their positions (B or 1, N,
    2), x and y from 0 at the left and upper border to 1; maps (B, H, W, C) of any
    sizes.
    Output: (B, N, C).

    The sampled rows are gathered; no map is copied for each point.

    Raises:
        ValueError: if there is no map, `num_heads` does not divide C, or the inputs
            differ in C.

    Reference: Deformable DETR, equation (3); starting offsets as in appendix A.4.
    """

    def __init__(self, num_heads=8, num_points=4, **kwargs):
        # Half precision is too coarse for positions in a map: they come as they are.
        super().__init__(autocast=False, **kwargs)
        self.num_heads = num_heads
        self.num_points = num_points

    def build(self, input_shape):
        queries, _, *maps = input_shape
        channels = queries[-1]
        check_heads(channels, self.num_heads)
        widths = [x[-1] for x in maps]
        if not maps or {*widths} != {channels}:
            raise ValueError(
                "MultiScaleDeformableAttention expects one map or more, all with the "
                f"queries' {channels} channels. Received maps with: {widths}"
            )
        samples = self.num_heads * len(maps) * self.num_points
        dtype = {"dtype": self.dtype_policy}
        self.offset = PointwiseConvolution(
            2 * samples,
            kernel_initializer="zeros",
            bias_initializer=self._starting_offsets,
            name="offset",
            dtype="float32",
        )
        self.attention = PointwiseConvolution(
            samples, kernel_initializer="zeros", name="attention", **dtype
        )
        self.value, self.projection = (
            PointwiseConvolution(
                channels, kernel_initializer="glorot_uniform", name=name, **dtype
            )
            for name in ("value", "projection")
        )
        for layer in (self.offset, self.attention, self.projection):
            layer.build(queries)
        self.value.build(maps[0])

    def _starting_offsets(self, shape, dtype=None):
        """Each head looks into its own direction, its points 1, 2, … pixels away."""
        angle = 2 * np.pi * np.arange(self.num_heads) / self.num_heads
        direction = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        direction /= abs(direction).max(axis=-1, keepdims=True)
        distance = np.arange(1, self.num_points + 1)[:, None]
        offsets = direction[:, None, None] * distance  # (heads, 1, points, 2)
        levels = shape[0] // offsets.size
        offsets = np.repeat(offsets, levels, axis=1)
        return ops.convert_to_tensor(offsets.reshape(shape), dtype)

    def call(self, inputs):
        queries, positions, *maps = inputs
        _, tokens, channels = ops.shape(queries)
        shape = (-1, tokens, self.num_heads, len(maps) * self.num_points)
        weights = ops.cast(self.attention(queries), "float32")
        weights = softmax(ops.reshape(weights, shape))
        weights = ops.split(weights, len(maps), axis=-1)
        offsets = self.offset(queries)  # x and y in turn
        columns, rows = (  # for each level (B, N, heads, points)
            ops.split(ops.reshape(offsets[..., i::2], shape), len(maps), axis=-1)
            for i in (0, 1)
        )
        positions = ops.cast(positions, "float32")
        x, y = positions[:, :, :1, None], positions[:, :, 1:, None]  # (B, N, 1, 1)
        read = 0
        for level, values in enumerate(map(self.value, maps)):
            _, height, width, _ = ops.shape(values)
            read = read + read_weighted(
                values,
                x * ops.cast(width, "float32") - 0.5 + columns[level],
                y * ops.cast(height, "float32") - 0.5 + rows[level],
                weights[level],
            )
        return self.projection(ops.reshape(read, (-1, tokens, channels)))

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def attention_flops(self, input_shape):
        """Multiply-accumulates of the four corners of every sample."""
        (batch, tokens, channels), _, *maps = input_shape
        return 4 * batch * tokens * channels * len(maps) * self.num_points

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "num_points": self.num_points,
        }


def read_weighted(values, column, row, weight):
    """Sum of a map's values at some positions for each query and head.

    Args:
        values: (B, H, W, C), C in the order (heads, depth).
        column, row: float32 (B, N, heads, points), in pixels; an integer is the centre
            of a pixel. Read bilinearly, with zeros outside of the map.
        weight: of each position, of the same shape.

    Returns:
        (B·N·heads, depth), in that order.
    """
    batch, height, width, channels = ops.shape(values)
    _, _, heads, points = weight.shape
    image = ops.reshape(ops.arange(batch, dtype="int32"), (-1, 1, 1, 1))
    head = ops.reshape(ops.arange(heads, dtype="int32"), (1, 1, -1, 1))
    columns = two_pixels(column, width)
    corners = [  # index (B, N, heads, points) of a row of values, its weight
        (((image * height + i) * width + j) * heads + head, weight * v * w)
        for i, v in two_pixels(row, height)
        for j, w in columns
    ]
    index, weight = (
        ops.reshape(ops.concatenate(x, axis=-1), (-1, 4 * points))
        for x in zip(*corners, strict=True)
    )
    table = ops.reshape(values, (-1, channels // heads))
    return _weighted_rows(table, index, ops.cast(weight, table.dtype))


def two_pixels(position, size):
    """The pixel before a position and the one behind: [(index, weight), …].

    Outside of the map the weight is zero and the index another pixel's.
    """
    first = ops.floor(position)
    pixels = []
    for pixel, weight in (
        (first, 1.0 - (position - first)),
        (first + 1.0, position - first),
    ):
        # Before the cast, for positions that no integer holds.
        inside = ops.logical_and(pixel >= 0, pixel < ops.cast(size, "float32"))
        # From 1 on: TFLite's converter takes 0..6 for ReLU6, which integers have not.
        index = ops.clip(ops.cast(pixel, "int32") + 1, 1, size) - 1
        pixels.append((index, ops.where(inside, weight, 0.0)))
    return pixels


def _weighted_rows(table, index, weight):
    """Sum over k of `weight[:, k] · table[index[:, k]]`, (M, depth)."""
    if keras.config.backend() == "torch":
        from keras_lrseg.layers.torch_rows import weighted_rows

        return weighted_rows(table, index, weight)
    if keras.config.backend() == "jax":
        from keras_lrseg.layers.jax_rows import weighted_rows

        return weighted_rows(table, index, weight)
    import tensorflow as tf

    rows = tf.gather(table, index)  # (M, K, depth), without a check of each index
    return ops.squeeze(ops.matmul(weight[:, None], rows), axis=1)
