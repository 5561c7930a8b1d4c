"""JPEG files of which only the part that is needed is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_lrseg.data.files import Record, load_image, opened, required

END = b"\xff\xd9"  # the marker at the end of an image
MARGIN = 8
"""Pixels decoded around a part. Colours are stored at half the size: without its
neighbours a part's edge would differ from the whole image, up to three pixels deep."""


@dataclass(frozen=True)
class Jpeg:
    """An encoded image, RGB or grey.

    Args:
        content: of the file.
        shape: (height, width, 3) of the image.
    """

    content: bytes
    shape: tuple[int, int, int]


def load_lazily(path: str | Path | Record) -> np.ndarray | Jpeg:
    """As `load_image`, but the pixels of a JPEG are left to `decode_part`."""
    with opened(path, "image") as image:
        # MPO: a JPEG with a second picture behind it, as phones write.
        if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
            image.fp.seek(0)
            content = image.fp.read()
            # A truncated file is refused, whichever part of it is wanted.
            if content.endswith(END):
                return Jpeg(content, (image.height, image.width, 3))
    return load_image(path)


def decode_part(
    jpeg: Jpeg, first: np.ndarray, last: np.ndarray, name: str
) -> np.ndarray:
    """Decodes the rows and columns first..last-1.

    Args:
        first, last: integers (2,), of (height, width).
        name: of the file, for messages.

    Returns: uint8 (h, w, 3), RGB, to the bit those of `load_image`.
    Raises: CorruptFile; for damage in the middle of other parts not always.
    """
    tf = required("tensorflow")
    start = np.maximum(first - MARGIN, 0)
    end = np.minimum(last + MARGIN, jpeg.shape[:2])
    try:
        part = tf.io.decode_and_crop_jpeg(
            jpeg.content,
            [*start, *(end - start)],
            channels=3,
            dct_method="INTEGER_ACCURATE",  # as Pillow does
        ).numpy()
    except tf.errors.InvalidArgumentError:  # Pillow decides, and names the file
        part, start = load_image(Record(jpeg.content, name)), 0
    (top, left), (bottom, right) = first - start, last - start
    return part[top:bottom, left:right]
