"""Bilinear resizing in NumPy: the same numbers on every backend, nothing compiled."""

from collections.abc import Iterable, Iterator

import numpy as np

STRIP = 2**18  # values of a strip of logits: 1 MiB, as much as stays in a cache


def resize(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize with half-pixel centres, without antialiasing, as PyTorch and OpenCV do.

    Args:
        array: (h, w, C), of any real dtype.
        size: (H, W) of the result.

    Returns:
        float32 (H, W, C).
    """
    array = _interpolate(array, *_neighbours(array.shape[0], size[0]), axis=0)
    return _interpolate(array, *_neighbours(array.shape[1], size[1]), axis=1)


def resize_rows(
    blocks: Iterable[np.ndarray], height: int, size: tuple[int, int]
) -> Iterator[np.ndarray]:
    """`resize` for an array that comes in blocks of rows, and goes in blocks of rows.

    Only the rows that the next block of the result needs are held.

    Args:
        blocks: (any number, w, C), from the top; rows after `height` are ignored.
        height: rows of the array.
        size: (H, W) of the result.

    Yields:
        float32 (n, W, C), n as in `strips`.
    """
    blocks = iter(blocks)
    held, top = next(blocks), 0
    columns = _neighbours(held.shape[1], size[1])
    for rows in strips(size, held.shape[-1]):
        low, high, weight = _neighbours(height, size[0], rows)
        while top + len(held) <= high[-1]:
            used = min(low[0] - top, len(held))
            held = np.concatenate([held[used:], next(blocks)])
            top += used
        values = _interpolate(held, low - top, high - top, weight, axis=0)
        yield _interpolate(values, *columns, axis=1)


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image (h, w, 3); uint8 stays uint8, rounded as OpenCV does.

    OpenCV works with weights of 11 bits: a value in eight differs by one of 255.
    """
    if image.shape[:2] == tuple(size):
        return image
    blocks = resize_rows([image], len(image), size)
    if image.dtype == np.uint8:
        blocks = (np.rint(block).astype("uint8") for block in blocks)
    return np.concatenate(list(blocks))


def strips(size: tuple[int, int], channels: int) -> Iterator[slice]:
    """Slices of rows that make up an array (H, W, channels), `STRIP` values each."""
    step = max(1, STRIP // (size[1] * channels))
    return (slice(y, min(y + step, size[0])) for y in range(0, size[0], step))


def _neighbours(count, length, part=slice(None)):
    """Where a part of `length` positions lies between `count` entries.

    Returns:
        The entries before and after, and the weight of those after; None for no weight:
        the positions are the entries.
    """
    if count == length:
        index = np.arange(length)[part]
        return index, index, None
    # PyTorch's rounding: the scale in float32, then one rounding of the position. It
    # moves logits by up to 1e-4 of the difference between neighbours.
    scale = np.float64(np.float32(count) / np.float32(length))
    position = (np.arange(length)[part] + 0.5) * scale - 0.5
    position = position.astype("float32").clip(0, count - 1)
    low = position.astype("int64")
    return low, np.minimum(low + 1, count - 1), position - low.astype("float32")


def _interpolate(array, low, high, weight, axis):
    """Linear interpolation along an axis, between neighbouring entries."""
    # A part needs few rows of what may be a mirrored or cut view: `take` copies those.
    first, last = low[0], high[-1] + 1
    array = array[(slice(None),) * axis + (slice(first, last),)]
    if weight is None:
        return array.astype("float32", copy=False)
    weight = weight.reshape((-1,) + (1,) * (array.ndim - axis - 1))
    result = np.take(array, high - first, axis).astype("float32", copy=False)
    start = np.take(array, low - first, axis).astype("float32", copy=False)
    result *= weight
    start *= 1 - weight
    result += start
    return result
