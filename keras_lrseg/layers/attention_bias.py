"""Learnt attention biases of relative positions, for maps of any size.

LeViT (Graham et al., 2021) and EfficientFormerV2 learn one bias for each distance
(|Δy|, |Δx|) on a square map. For a map of another size, the matrix of all queries and
keys is resized bicubically like an image, as OffSeg's authors do.
"""

import functools

import numpy as np
from keras import ops


def attention_bias(table, resolution, strides, queries, keys):
    """Return the biases (heads, queries, keys) of all pairs of tokens.

    In an exported graph of a fixed size they are one constant.

    Args:
        table: tensor (heads, resolution²), a bias for each |Δy| · resolution + |Δx|.
        resolution: side of the square map of keys that the table is learnt for.
        strides: the queries are on every `strides`-th row and column of that map.
        queries, keys: numbers of tokens; integers or scalar int32 tensors.
    """
    bias = ops.take(table, relative_positions(resolution, strides), axis=1)
    bias = _resized_and_swapped(bias, keys)  # (heads, keys, n)
    return _resized_and_swapped(bias, queries)  # (heads, queries, keys)


@functools.lru_cache(maxsize=64)
def relative_positions(resolution, strides=1):
    """Return the index |Δy| · resolution + |Δx| of every pair, int32 (Nq, Nk)."""
    points = np.arange(resolution, dtype="int32")
    distance = abs(points[::strides, None] - points[None])  # (r, R)
    index = distance[:, None, :, None] * resolution + distance[None, :, None, :]
    return index.reshape(len(distance) ** 2, resolution**2)


def _resized_and_swapped(x, size):
    """Resize the last axis of x (heads, n, m) bicubically: (heads, size, n)."""
    heads, n, m = ops.shape(x)
    if not (isinstance(size, int) and size == m):
        matrix = ops.cast(bicubic_matrix(m, size), x.dtype)
        # Of plain matrices, since TFLite's converter folds no other constant products.
        x = ops.matmul(ops.reshape(x, (-1, m)), ops.transpose(matrix))
        x = ops.reshape(x, (heads, n, size))
    return ops.swapaxes(x, 1, 2)


def bicubic_matrix(size_in, size_out):
    """Return the (size_out, size_in) matrix of bicubic resizing.

    PyTorch's `interpolate(mode="bicubic", align_corners=False)`: cubic convolution with
    a = -0.75, half-pixel centres, edges repeated, no antialiasing. NumPy for integers,
    else a tensor.
    """
    if isinstance(size_in, int) and isinstance(size_out, int):
        return _constant_bicubic_matrix(size_in, size_out)
    return _bicubic_matrix(ops, size_in, size_out)


@functools.lru_cache(maxsize=8)  # 32 MB each for an image of 1024×2048
def _constant_bicubic_matrix(size_in, size_out):
    return _bicubic_matrix(np, size_in, size_out)


def _bicubic_matrix(xp, size_in, size_out):
    cast = np.asarray if xp is np else ops.cast
    # The centre of output i is at ((2i + 1) · in - out) / 2out of the input.
    place = (2 * xp.arange(size_out, dtype="int32") + 1) * size_in - size_out
    first = place // (2 * size_out)
    rest = cast(place - 2 * size_out * first, "float32") / cast(2 * size_out, "float32")
    columns = xp.arange(size_in, dtype="int32")
    matrix = 0.0
    for tap in (-1, 0, 1, 2):
        column = xp.clip(first + tap, 0, size_in - 1)
        taken = cast(column[:, None] == columns[None, :], "float32")
        matrix = matrix + _cubic(abs(rest - tap), outer=tap in (-1, 2))[:, None] * taken
    return matrix


def _cubic(distance, outer, a=-0.75):
    """Weight of a tap; `outer` ones are 1 to 2 pixels away (Keys, 1981)."""
    if outer:
        return ((distance - 5) * distance + 8) * distance * a - 4 * a
    return ((a + 2) * distance - (a + 3)) * distance * distance + 1
