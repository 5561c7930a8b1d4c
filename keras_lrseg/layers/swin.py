"""Layers of the Swin Transformer (Liu et al., ICCV 2021, sections 3.1 and 3.2).

Maps of any size: zeros behind the last row and column fill up patches, windows and
pairs of pixels, as in MMDetection and Hugging Face's transformers. Those zeros attend
and are attended to like pixels. Linear maps and bias tables start from a truncated
normal distribution of deviation 0.02.
"""

import functools

import keras
import numpy as np
from keras import ops

from keras_lrseg.layers.activation import gelu
from keras_lrseg.layers.convolution import PatchConv2D, PointwiseConvolution
from keras_lrseg.layers.heads import check_heads, merge_heads, split_heads
from keras_lrseg.layers.regularization import DropPath
from keras_lrseg.layers.softmax import softmax


def _linear(units, **settings):
    initializer = keras.initializers.TruncatedNormal(stddev=0.02)
    return PointwiseConvolution(units, kernel_initializer=initializer, **settings)


@keras.saving.register_keras_serializable(package="keras_lrseg")
class WindowAttention(keras.layers.Layer):
    """Self-attention inside square windows side by side.

    Each pair of positions in a window has a learnt bias for each head, which depends on
    their distance (Δy, Δx). With a shift the map is rolled up and to the left by it
    before the windows are cut, and back behind them; positions of a window that do not
    adjoin in the map do not see each other.

    Args:
        num_heads: attention heads; divides the number of channels.
        window_size: M, the side of the windows in pixels of the map.
        shift: pixels, 0 or (in every second block) M // 2.

    Input and output: (B, H, W, C).

    Raises:
        ValueError: if `num_heads` does not divide C, or the shift is no smaller than
            the window.

    Reference: Liu et al., "Swin Transformer", section 3.2, equation (4).
    """

    def __init__(self, num_heads, window_size=7, shift=0, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= shift < window_size:
            raise ValueError(
                "WindowAttention expects 0 <= shift < window_size. "
                f"Received: shift={shift}, window_size={window_size}"
            )
        self.num_heads = num_heads
        self.window_size = window_size
        self.shift = shift

    def build(self, input_shape):
        channels = input_shape[-1]
        check_heads(channels, self.num_heads)
        dtype = {"dtype": self.dtype_policy}
        self.query_key_value = _linear(3 * channels, name="query_key_value", **dtype)
        self.projection = _linear(channels, name="projection", **dtype)
        self.query_key_value.build((None, self.window_size**2, channels))
        self.projection.build(input_shape)
        self.bias_table = self.add_weight(
            name="bias_table",
            shape=((2 * self.window_size - 1) ** 2, self.num_heads),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )

    def call(self, x):
        height, width = ops.shape(x)[1:3]
        x = _rolled(pad_to_multiple(x, self.window_size), self.shift)
        padded = ops.shape(x)[1:3]
        x = self._attend(_windows(x, self.window_size), self._biases(*padded))
        x = _rolled(_map(x, self.window_size, *padded), -self.shift)
        return self.projection(x[:, :height, :width])

    def _attend(self, x, biases):
        """Attention inside windows (B*n, M², C), with biases (1 or n, heads, M²*M²)."""
        tokens = x.shape[1]
        x = split_heads(self.query_key_value(x), 3 * self.num_heads)
        x = _biased_attention(*ops.split(x, 3, axis=1), biases)
        return merge_heads(x, tokens)

    def _biases(self, height, width):
        table = ops.convert_to_tensor(self.bias_table)
        index = relative_positions(self.window_size)
        biases = ops.transpose(ops.take(table, index, axis=0))[None]
        if self.shift == 0:
            return biases  # (1, heads, M²*M²)
        mask = _shift_mask(height, width, self.window_size, self.shift)
        return biases + ops.cast(mask, biases.dtype)  # (n, heads, M²*M²)

    def compute_output_shape(self, input_shape):
        return input_shape

    def attention_flops(self, input_shape):
        """Multiply-accumulates of the two attention products."""
        batch, *size, channels = input_shape
        rows, columns = (-(-n // self.window_size) for n in size)
        return 2 * batch * rows * columns * self.window_size**4 * channels

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "window_size": self.window_size,
            "shift": self.shift,
        }


def _biased_attention(queries, keys, values, biases):
    """Attention of (B*n, heads, N, d) tensors; the softmax is float32 in any policy.

    Args:
        biases: (1, heads, N*N), or (n, heads, N*N) of the n windows of each image.
    """
    _, heads, tokens, channels = queries.shape
    if keras.config.backend() == "torch":
        import torch.nn.functional as F

        biases = biases.unflatten(2, (tokens, tokens))
        if len(biases) > 1:  # a view for a batch of one
            images = len(queries) // len(biases)
            biases = biases.expand(images, *biases.shape).flatten(0, 1)
        return F.scaled_dot_product_attention(queries, keys, values, biases)
    # Scaled first: in float16 the bare product can overflow.
    scores = ops.matmul(queries * channels**-0.5, ops.swapaxes(keys, 2, 3))
    scores = ops.reshape(scores, (-1, ops.shape(biases)[0], heads, tokens**2))
    scores = ops.reshape(scores + biases, (-1, heads, tokens, tokens))
    return ops.matmul(softmax(scores), values)


@functools.cache
def relative_positions(size):
    """Return the row of the bias table for every pair of positions, int32 (size⁴,).

    The table's rows are (Δy + size - 1) · (2·size - 1) + (Δx + size - 1), with the
    distances Δ from key to query.
    """
    points = np.arange(size, dtype="int32")
    distance = points[:, None] - points[None] + size - 1  # (query, key)
    index = distance[:, None, :, None] * (2 * size - 1) + distance[None, :, None, :]
    return index.reshape(-1)


def _shift_mask(height, width, size, shift):
    """Return -100 for the pairs that a shift must keep apart, else 0: (n, 1, size⁴).

    Only in the last row and column of windows, positions from opposite edges meet.
    """
    y, x = np.divmod(np.arange(size**2), size)
    far_y, far_x = y >= size - shift, x >= size - shift
    apart_y, apart_x = (far[:, None] != far[None] for far in (far_y, far_x))
    rows, columns = height // size, width // size
    last_row = ops.arange(rows, dtype="int32") == rows - 1
    last_column = ops.arange(columns, dtype="int32") == columns - 1
    apart = ops.logical_or(
        ops.logical_and(last_row[:, None, None], apart_y.reshape(-1)),
        ops.logical_and(last_column[None, :, None], apart_x.reshape(-1)),
    )  # (rows, columns, size⁴)
    return -100.0 * ops.cast(ops.reshape(apart, (-1, 1, size**4)), "float32")


def pad_to_multiple(x, multiple):
    """Put zeros behind the last row and column, to multiples of `multiple` pixels.

    Args:
        x: tensor (B, H, W, C).
    """
    missing = [-n % multiple for n in ops.shape(x)[1:3]]
    if all(isinstance(n, int) and n == 0 for n in missing):
        return x
    return ops.pad(x, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)))


def _rolled(x, shift):
    """Roll a map (B, H, W, C) by `shift` pixels, up and to the left.

    In slices, since TFLite has no such operator.
    """
    if shift == 0:
        return x
    x = ops.concatenate([x[:, shift:], x[:, :shift]], axis=1)
    return ops.concatenate([x[:, :, shift:], x[:, :, :shift]], axis=2)


def _windows(x, size):
    """Cut a map (B, H, W, C) into windows (B*n, size², C)."""
    _, _, width, channels = ops.shape(x)
    x = ops.reshape(x, (-1, size, width // size, size * channels))
    x = ops.transpose(x, (0, 2, 1, 3))  # (B*rows, columns, size, size*C)
    return ops.reshape(x, (-1, size**2, channels))


def _map(x, size, height, width):
    """Put windows (B*n, size², C) together to a map (B, H, W, C)."""
    channels = x.shape[-1]
    x = ops.reshape(x, (-1, width // size, size, size * channels))
    x = ops.transpose(x, (0, 2, 1, 3))  # (B*rows, size, columns, size*C)
    return ops.reshape(x, (-1, height, width, channels))


@keras.saving.register_keras_serializable(package="keras_lrseg")
class SwinBlock(keras.layers.Layer):
    """Window attention and a feed-forward, each in a residual branch.

        x = x + drop_path(attention(norm(x)))
        x = x + drop_path(W2 · GELU(W1 · norm(x)))

    Args:
        num_heads, window_size, shift: of `WindowAttention`.
        expansion_ratio: width inside the feed-forward divided by the channels.
        drop_path_rate: probability of dropping a branch in training.
        epsilon: of the layer normalizations.

    Input and output: (B, H, W, C).

    Reference: "Swin Transformer", section 3.2, equation (3).
    """

    def __init__(
        self,
        num_heads,
        window_size=7,
        shift=0,
        expansion_ratio=4,
        drop_path_rate=0.0,
        epsilon=1e-5,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "num_heads": num_heads,
            "window_size": window_size,
            "shift": shift,
            "expansion_ratio": expansion_ratio,
            "drop_path_rate": drop_path_rate,
            "epsilon": epsilon,
        }
        dtype = {"dtype": self.dtype_policy}
        self.norm1, self.norm2 = (
            keras.layers.LayerNormalization(epsilon=epsilon, name=f"norm{i}", **dtype)
            for i in (1, 2)
        )
        self.attention = WindowAttention(
            num_heads, window_size, shift, name="attention", **dtype
        )
        self.drop_path = DropPath(drop_path_rate, name="drop_path", **dtype)

    def build(self, input_shape):
        channels = input_shape[-1]
        hidden_shape = (
            *input_shape[:-1],
            int(channels * self.settings["expansion_ratio"]),
        )
        dtype = {"dtype": self.dtype_policy}
        self.expand = _linear(hidden_shape[-1], activation=gelu, name="expand", **dtype)
        self.contract = _linear(channels, name="contract", **dtype)
        layers = (self.norm1, self.attention, self.norm2, self.expand, self.drop_path)
        for layer in layers:
            layer.build(input_shape)
        self.contract.build(hidden_shape)

    def call(self, x, training=False):
        x = x + self.drop_path(self.attention(self.norm1(x)), training=training)
        y = self.contract(self.expand(self.norm2(x)))
        return x + self.drop_path(y, training=training)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable(package="keras_lrseg")
class PatchEmbedding(keras.layers.Layer):
    """Linear map of patches side by side, then layer normalization.

    Args:
        channels: output channels.
        patch_size: side of the patches in pixels.
        epsilon: of the layer normalization.

    Input: (B, H, W, C). Output: (B, ceil(H/patch_size), ceil(W/patch_size), channels).

    Reference: "Swin Transformer", section 3.1.
    """

    def __init__(self, channels, patch_size=4, epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.patch_size = patch_size
        self.epsilon = epsilon
        dtype = {"dtype": self.dtype_policy}
        self.convolution = PatchConv2D(
            channels,
            patch_size,
            kernel_initializer=keras.initializers.VarianceScaling(
                1 / 3, "fan_in", "uniform"
            ),
            name="convolution",
            **dtype,
        )
        self.norm = keras.layers.LayerNormalization(
            epsilon=epsilon, name="norm", **dtype
        )

    def build(self, input_shape):
        self.convolution.build(input_shape)
        self.norm.build(self.compute_output_shape(input_shape))

    def call(self, x):
        return self.norm(self.convolution(pad_to_multiple(x, self.patch_size)))

    def compute_output_shape(self, input_shape):
        return _divided(input_shape, self.patch_size, self.channels)

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "patch_size": self.patch_size,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable(package="keras_lrseg")
class PatchMerging(keras.layers.Layer):
    """Halve a map: 2×2 pixels to one, layer normalization, linear map without bias.

    The four pixels follow each other row by row: channel (2·row + column)·C + c of the
    merged pixel is channel c of the one at that row and column.

    Args:
        channels: output channels.
        epsilon: of the layer normalization.

    Input: (B, H, W, C). Output: (B, ceil(H/2), ceil(W/2), channels).

    Reference: "Swin Transformer", section 3.1.
    """

    def __init__(self, channels, epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.epsilon = epsilon
        dtype = {"dtype": self.dtype_policy}
        self.norm = keras.layers.LayerNormalization(
            epsilon=epsilon, name="norm", **dtype
        )
        self.reduction = _linear(channels, use_bias=False, name="reduction", **dtype)

    def build(self, input_shape):
        merged_shape = _divided(input_shape, 2, 4 * input_shape[-1])
        self.norm.build(merged_shape)
        self.reduction.build(merged_shape)

    def call(self, x):
        x = pad_to_multiple(x, 2)
        _, height, width, channels = ops.shape(x)
        x = ops.reshape(x, (-1, 2, width // 2, 2 * channels))
        x = ops.transpose(x, (0, 2, 1, 3))  # (B*H/2, W/2, 2, 2*C)
        x = ops.reshape(x, (-1, height // 2, width // 2, 4 * channels))
        return self.reduction(self.norm(x))

    def compute_output_shape(self, input_shape):
        return _divided(input_shape, 2, self.channels)

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "epsilon": self.epsilon,
        }


def _divided(shape, strides, channels):
    batch, *size, _ = shape
    return (batch, *(None if n is None else -(-n // strides) for n in size), channels)
