"""Where the pixels of a map lie: as numbers from 0 to 1, and as sines of them."""

import functools

import numpy as np
from keras import ops


def relative_positions(size):
    """Return the centres of a map's pixels, x and y in 0..1, float32 (1, H, W, 2).

    Args:
        size: (height, width); integers, or scalar int32 tensors on TensorFlow.
    """
    return ops.flip(_of_rows_and_columns(_centre, size), axis=-1)


def sine_embedding(size, channels):
    """Return DETR's two-dimensional sine embedding, float32 (1, H, W, channels).

    The first half of the channels describes the row, the second the column. Sines and
    cosines alternate, their wavelengths from the map's side to 10,000 times that.

    Args:
        size: (height, width); integers, or scalar int32 tensors on TensorFlow.
        channels: a multiple of 4.

    Reference: DETR (ECCV 2020), appendix A.4, with positions normalised to 2π.
    """
    return _of_rows_and_columns(_waves, size, channels // 2)


def _centre(numbers, n):
    return (numbers + 0.5) / n  # (n, 1)


def _waves(numbers, n, channels):
    channel = np.arange(channels)
    frequency = 2 * np.pi / 10_000 ** (channel // 2 * 2 / channels)
    phase = np.pi / 2 * (channel % 2)  # A cosine is a sine a quarter ahead.
    angle = (numbers + 1.0) / (n + 1e-6) * frequency.astype("float32")
    sine = np.sin if isinstance(angle, np.ndarray) else ops.sin
    return sine(angle + phase.astype("float32"))  # (n, channels)


def _of_rows_and_columns(function, size, *settings):
    """Numbers of each pixel's row, then of its column, (1, H, W, 2·C)."""
    rows, columns = (_along_axis(function, n, *settings) for n in size)
    channels = rows.shape[-1]
    rows = ops.pad(rows, ((0, 0), (0, channels)))
    columns = ops.pad(columns, ((0, 0), (channels, 0)))
    return rows[None, :, None] + columns[None, None]


def _along_axis(function, n, *settings):
    """`function` of 0 … n-1, (n, C), a constant where n is an integer."""
    if isinstance(n, int):
        return ops.convert_to_tensor(_constant(function, n, *settings))
    numbers = ops.cast(ops.arange(n, dtype="int32")[:, None], "float32")
    return function(numbers, ops.cast(n, "float32"), *settings)


@functools.lru_cache(maxsize=256)
def _constant(function, n, *settings):
    numbers = np.arange(n, dtype="float64")[:, None]
    return function(numbers, n, *settings).astype("float32")
