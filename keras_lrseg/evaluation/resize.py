"""Bilinear resizing in NumPy: the same numbers on every backend, nothing compiled."""

from collections.abc import Iterator

import numpy as np

STRIP = 2**18  # values of a strip of logits: 1 MiB, as much as stays in a cache


def resize(
    array: np.ndarray, size: tuple[int, int], rows: slice = slice(None)
) -> np.ndarray:
    """Resize with half-pixel centres, without antialiasing, as PyTorch and OpenCV do.

    Args:
        array: (h, w, C), of any real dtype.
        size: (H, W) of the result.
        rows: the rows of the result that are wanted.

    Returns:
        float32 (H or the number of rows, W, C).
    """
    array = _interpolate(array, size[0], 0, rows)
    return _interpolate(array, size[1], 1)


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image (h, w, 3); uint8 stays uint8, rounded as OpenCV does.

    OpenCV works with weights of 11 bits: a value in eight differs by one of 255.
    """
    if image.shape[:2] == tuple(size):
        return image
    resized = resize(image, size)
    return np.rint(resized).astype("uint8") if image.dtype == np.uint8 else resized


def strips(size: tuple[int, int], channels: int) -> Iterator[slice]:
    """Slices of rows that make up an array (H, W, channels), `STRIP` values each."""
    step = max(1, STRIP // (size[1] * channels))
    return (slice(y, min(y + step, size[0])) for y in range(0, size[0], step))


def _interpolate(array, length, axis, part=slice(None)):
    """Linear interpolation along an axis to a new length, of which a part is wanted."""
    count = array.shape[axis]
    if count == length:
        wanted = (slice(None),) * axis + (part,)
        return array[wanted].astype("float32", copy=False)
    # PyTorch's rounding: the scale in float32, then one rounding of the position. It
    # moves logits by up to 1e-4 of the difference between neighbours.
    scale = np.float64(np.float32(count) / np.float32(length))
    position = (np.arange(length)[part] + 0.5) * scale - 0.5
    position = position.astype("float32").clip(0, count - 1)
    low = position.astype("int64")
    high = np.minimum(low + 1, count - 1)
    weight = (position - low.astype("float32")).reshape(
        (-1,) + (1,) * (array.ndim - axis - 1)
    )
    # A part needs few rows of what may be a mirrored or cut view: `take` copies those.
    first, last = low[0], high[-1] + 1
    array = array[(slice(None),) * axis + (slice(first, last),)]
    result = np.take(array, high - first, axis).astype("float32", copy=False)
    start = np.take(array, low - first, axis).astype("float32", copy=False)
    result *= weight
    start *= 1 - weight
    result += start
    return result
