"""Adaptive average pooling and bilinear resizing, right on every backend.

Both are separable linear maps, `P_h · X · P_wᵀ`. Pooling to several small grids is
computed that way, as matrix products: one pass over the large map serves all grids,
sizes may be unknown, and in an exported file the matrices are plain constants.
`keras.ops.adaptive_average_pool` is wrong on JAX for some sizes and needs static
sizes on TensorFlow.
"""

import functools

import keras
import numpy as np
from keras import ops


def aspect_grid(size: int, height, width):
    """Return the (height, width) of a pooling grid that follows the aspect ratio.

    The shorter side gets `size` cells, the longer one `size · long / short + 0.001`,
    rounded, as the authors' code computes it.

    Args:
        size: cells along the shorter side.
        height, width: size of the feature map; integers or scalar int32 tensors.
    """
    if isinstance(height, int) and isinstance(width, int):
        if width >= height:
            return size, _rounded_ratio(size * width, height)
        return _rounded_ratio(size * height, width), size
    wide = ops.cast(width >= height, "int32")
    rows = wide * size + (1 - wide) * _rounded_ratio(size * height, width)
    columns = wide * _rounded_ratio(size * width, height) + (1 - wide) * size
    return rows, columns


def scaled_grid(size: int, query_size: int) -> int:
    """Scale a key/value grid `size`, given for 16 queries a side, to `query_size`."""
    return _rounded_ratio(size * query_size, 16)


def _rounded_ratio(numerator, denominator):
    """round(numerator / denominator + 0.001) in integers, exact in a graph too."""
    return (1000 * numerator + 501 * denominator) // (1000 * denominator)


def pooling_matrix(size_in, size_out):
    """Return the (size_out, size_in) matrix of adaptive average pooling.

    Row i averages the window floor(i·in/out) … ceil((i+1)·in/out), PyTorch's rule; a
    grid larger than its input repeats values. NumPy for integers, else a tensor.
    """
    if isinstance(size_in, int) and isinstance(size_out, int):
        return _constant_pooling_matrix(size_in, size_out)
    return _pooling_matrix(ops, size_in, size_out)


@functools.lru_cache(maxsize=1024)
def _constant_pooling_matrix(size_in, size_out):
    return _pooling_matrix(np, size_in, size_out)


def _pooling_matrix(xp, size_in, size_out):
    row = xp.arange(size_out, dtype="int32")[:, None]
    column = xp.arange(size_in, dtype="int32")[None, :]
    start = row * size_in // size_out
    stop = -((-(row + 1) * size_in) // size_out)
    inside = xp.logical_and(column >= start, column < stop)
    as_float = np.asarray if xp is np else ops.cast
    return as_float(inside, "float32") / as_float(stop - start, "float32")


@functools.lru_cache(maxsize=256)
def _stacked_rows(size_in, sizes_out):
    return np.concatenate([_constant_pooling_matrix(size_in, n) for n in sizes_out])


def adaptive_average_pools(x, grids):
    """Average-pool one feature map to several grids, reading it once.

    Args:
        x: tensor (batch, height, width, channels), floating point.
        grids: list of (rows, columns); integers or scalar int32 tensors.

    Returns:
        List of tensors (batch, rows, columns, channels), one for each grid, equal to
        PyTorch's `adaptive_avg_pool2d` on each.
    """
    if keras.config.backend() == "torch" and x.device.type != "mps":
        return [_torch_adaptive_average_pool(x, grid) for grid in grids]
    _, height, width, channels = ops.shape(x)
    heights = tuple(rows for rows, _ in grids)
    if isinstance(height, int) and all(isinstance(n, int) for n in heights):
        matrix = _stacked_rows(height, heights)
    else:
        matrix = ops.concatenate([pooling_matrix(height, n) for n in heights])
    # Rows first: all grids in one product that reads the large map a single time.
    x = ops.reshape(x, (-1, height, width * channels))
    x = ops.matmul(ops.cast(matrix, x.dtype), x)  # (B, sum of rows, W*C)
    pooled, first = [], 0
    for rows, columns in grids:
        part = ops.reshape(x[:, first : first + rows], (-1, rows, width, channels))
        matrix = ops.cast(pooling_matrix(width, columns), part.dtype)
        pooled.append(ops.matmul(matrix, part))  # (B, rows, columns, C)
        first = first + rows
    return pooled


def _torch_adaptive_average_pool(x, grid):
    """PyTorch's own pooling of the permuted view, a fraction of the products' time.

    Not on Apple's GPUs, where it takes only grids that divide the size.
    """
    import torch.nn.functional as F

    x = F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), grid)
    return x.permute(0, 2, 3, 1)


def resize_bilinear(x, size):
    """Resize feature maps bilinearly: half-pixel centres, no antialiasing.

    Equals PyTorch's `interpolate(mode="bilinear", align_corners=False)`, also when it
    shrinks.

    Args:
        x: tensor (batch, height, width, channels).
        size: (height, width); integers, or scalar int32 tensors on TensorFlow.
    """
    if all(isinstance(n, int) for n in size):
        if tuple(x.shape[1:3]) == tuple(size):
            return x
        return ops.image.resize(
            x, size, "bilinear", antialias=False, data_format="channels_last"
        )
    # Only TensorFlow's graphs have sizes that are not known when they are built.
    import tensorflow as tf

    return ops.cast(tf.image.resize(x, tf.stack(size), "bilinear"), x.dtype)


@keras.saving.register_keras_serializable(package="keras_lrseg")
class ResizeLike(keras.layers.Layer):
    """Resize the first input bilinearly to the height and width of the second.

    Inputs: `[x, reference]`, tensors (B, h, w, C) and (B, H, W, any).
    Output: (B, H, W, C).
    """

    def call(self, inputs):
        x, reference = inputs
        return resize_bilinear(x, ops.shape(reference)[1:3])

    def compute_output_shape(self, input_shape):
        x, reference = input_shape
        return (*reference[:3], x[3])
